// Package config turns policyd.toml into typed settings, and what is wrong with
// it into lines that an operator can act on.
//
//	c, err := config.Load("/etc/tlsverdict/policyd.toml")
//	if err != nil {
//		fmt.Fprintln(os.Stderr, err) // one line a problem
//		return err
//	}
//	for _, w := range c.Warnings(time.Now()) {
//		log.Warn(w.Error())
//	}
//	override := c.Overrides.Active("example.com", now)
//
// # The file
//
// It is TOML. Every key is optional; Default has what holds without a file, and
// contrib/policyd.toml spells it out. docs/policyd.toml.md is the reference. The
// keys, with their defaults and what they accept, are one table in this package
// (keys.go), against which tests check the sample file and the reference.
//
// # Errors
//
// A mail server must not run on a setting that was misspelt, so nothing is
// skipped: an unknown key is as fatal as a wrong value. All problems of a file
// are reported at once, as Problems, each with its line:
//
//	policyd.toml:4: unknown key dns.timeot; did you mean "timeout"?
//	policyd.toml:9: mta_sts.timeout = "90s": want a duration from "100ms" to "1m", in quotes and with its unit (ms, s, m or h)
//
// A text that is not TOML ends the reading at its first mistake. A file that
// cannot be read is an error of the operating system, wrapped.
//
// Keys of later releases are accepted only where they ask for nothing, so that
// nobody believes that something is on which is not.
//
// What is allowed but risky is a warning: a listener that other hosts reach, a
// resolver on the network whose AD bit is believed, an override that has ended.
//
// # Limits
//
// The file is at most 16 MiB long, and nests at most 32 levels.
//
// # What it does not do
//
// Parse opens nothing. Load opens the file and mta_sts.ca_file and nothing else:
// whether a listener can be opened, a resolver answers or the store's directory
// can be written is for those to find out who use them. There are no includes, no
// environment variables and no settings that depend on the host. Reading the
// file anew on a signal is the daemon's work.
package config
