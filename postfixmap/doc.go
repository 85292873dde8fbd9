// Package postfixmap speaks the socketmap protocol of Postfix, Sendmail and Exim.
package postfixmap
