// Package milterd judges mail at the moment when a mail server accepts it: it speaks
// the milter protocol of Sendmail and Postfix.
package milterd
