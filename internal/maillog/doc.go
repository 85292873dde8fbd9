// Package maillog reads what mail servers log of mail that they sent: to which domain, to
// which host, how well the connection was protected, and what became of it.
//
//	totals, err := maillog.Read(ctx, file, func(d maillog.Delivery) {
//		fmt.Println(d.Domain, d.Host, d.TLS, d.Outcome)
//	})
//
// It knows the logs of
//
//	Postfix    smtp(8) through syslog or postlog, any syslog_name; TLS is told where
//	           smtp_tls_loglevel is 1 or more
//	Exim       the main log, as a file or through syslog
//	Sendmail   the MTA through syslog, at LogLevel 9 (the default) or more
//
// in one stream, in any mixture, with or without a syslog prefix. Lines of other programs
// are passed over.
//
// # How well a delivery was protected
//
//	Clear       no TLS
//	Encrypted   TLS, with a certificate that was not checked or does not hold
//	Trusted     TLS, with a certificate of an authority that the mail server knows; whether
//	            it is for the host's name was perhaps not looked at
//	Verified    TLS, with a certificate that was held against a policy, and held
//	Unlogged    the log does not say: see Totals.TLSLogged
//
// Postfix writes about TLS and about the delivery in two lines of one process; so does
// Sendmail. They belong together by process, host and queue ID. Where that is ambiguous the
// delivery counts as Clear, not as protected.
//
// # Limits
//
// A line has maxLine octets; longer ones are cut. What is remembered of processes is
// bounded by maxProcesses. It reads no journal: pipe "journalctl -o short" in.
package maillog
