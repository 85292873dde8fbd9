// Package postfix finds out what this host's Postfix is set up to do, as far as a
// verdict depends on it: with which resolver it asks, whether it asks for DNSSEC at
// all, and which kind of fingerprint it compares.
//
//	setup, err := postfix.Here().Examine(ctx)
//	if err != nil { ... }                  // there is one, and it cannot be examined
//	if setup.Version == "" { ... }         // there is none
//	servers, err := resolve.SystemServers(setup.ResolvConf)
//
// Postfix is asked by its own postconf(1), so that defaults, compatibility levels
// and $names mean what they mean to it. smtp(8) reads resolv.conf below the queue
// directory where it is chrooted, as Debian has it, and that of the host otherwise.
//
// Limits: the default instance only, and only the service smtp/unix of master.cf;
// a transport of another name may have other settings. At most three runs of
// postconf, of five seconds and 64 KB each. Nothing is written or started else.
//
// The package asks no resolver and decides nothing.
package postfix
