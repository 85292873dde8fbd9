// Package snippet writes the configuration that has a mail server ask policyd: what to
// paste, and where.
//
//	s, err := snippet.Postfix{Version: "3.10.5", Chrooted: true}.For(snippet.Daemon{Address: address})
//	if err != nil { ... }       // that version cannot ask policyd
//	fmt.Print(s.Text())
//
// prints
//
//	# Postfix 3.10.5, smtp(8) chrooted. policyd is asked at inet:127.0.0.1:8461.
//
//	# /etc/postfix/main.cf, each in the place of a line with the same name:
//	smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix-tlsrpt
//	...
//
// Facts about the mail server and about policyd go in, text comes out: rooms that ask the
// host make the facts. A fact that is missing has the value of a mail server as its
// distribution installs it. What is printed stands in contrib too, and a test holds the
// two against one another; the lab pastes it into six mail servers.
//
// Everything that is not configuration is a comment in the syntax of the file that it is
// about, so that whole parts can be pasted.
//
// Errors: ErrUnfit, where the mail server is too old, or lacks what a verdict needs.
//
// Limits: Exim from 4.96, Postfix from 3.4, Sendmail from 8.17. The files of contrib for
// Exim and Sendmail are printed by name, where packages put them: Shared.
package snippet
