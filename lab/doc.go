// Package lab holds tests only: real Postfix, Exim and Sendmail, on a small internet
// of its own each, asking the real policyd.
//
// Every version that we speak to is unpacked from its Debian suite into a root of its
// own, with the unbound and NSD of that suite. A test run makes two network
// namespaces a version: in "mta" run the mail server, policyd and, where there is one,
// unbound, each as on a mail server; in "net" run NSD with the signed zones, other
// people's resolvers, the mail hosts, and the MTA-STS policy hosts. The domains are
// written down in testdata/internet.txtar.
//
// The mail server is made anew for each setup of setups_test.go: with a resolver
// that validates, one that does not, none, one that lies; with the milter, with
// port 26. In each, one mail is sent for each row of situations_test.go,
// outcomes_test.go or lies_test.go, to a recipient whose local part is the row's and
// the setup's name, so that the mail server's log, the mail hosts' records and the
// test's output all speak of the same thing. A row is judged by three witnesses: what
// policyd answers, what the mail server logs, and what the mail host saw.
//
// packages_test.go makes the packages and installs them on machines of lab/machines,
// which boot their own systemd; docs/packaging.md says what is looked at.
//
// docs/mta-outcomes.md is what comes of situations_test.go, and what was logged.
//
// To run it, as root on Debian with Go:
//
//	TLSVERDICT_LAB=1 go test -v -parallel 8 ./lab
//
// Without the variable only the tests of the lab's own parts run.
// README.md says more, and how to get a shell inside.
//
// What it does not do: it measures nothing, and it is not the place for cases
// that need no MTA. Those are scenarios.
package lab
