// Package postfix finds out what this host's Postfix is set up to do, as far as a
// verdict depends on it: which resolvers it asks, whether a setting keeps it from
// DANE, and which kind of fingerprint it compares.
//
//	setup, err := postfix.Here().Examine(ctx)
//	if err != nil { ... }                  // there is one, and it cannot be examined
//	if setup.Version == "" { ... }         // there is none
//	if !setup.DANE { ... }                 // setup.Obstacle says why
//	servers, err := setup.Resolvers()
//
// Postfix is asked by its own postconf(1), so that defaults, compatibility levels
// and $names mean what they mean to it. smtp(8) reads resolv.conf below the queue
// directory where it is chrooted, as Debian has it, and that of the host otherwise.
//
// Four settings make Postfix take "dane" for "may", with a warning in its log and
// nothing else (dane_init in smtp_tls_policy.c): smtp_dns_support_level other than
// dnssec, smtp_host_lookup without dns, ignore_mx_lookup_error, and either of
// smtp_dns_resolver_options.
//
// Routes and Own say for which domains Postfix has a way of its own, which an answer to
// transport_maps would replace: its own mailboxes and aliases, what it relays, another
// transport, a relay host.
//
//	routes, err := host.Routes(ctx)
//	setting, err := host.Own(ctx, routes, "example.com")   // "mydestination", or ""
//
// Instances finds every Postfix of the host, and in each every service of master.cf that
// runs smtp(8), with the settings that are named:
//
//	all, err := host.Instances(ctx, "smtp_tls_loglevel")
//	all[0].Clients[0].Settings["smtp_tls_loglevel"]        // with its "-o" over main.cf
//
// Limits: Examine and Routes know the default instance only, and only the service
// smtp/unix of master.cf; a transport of another name may have other settings. That its TLS library can do
// DANE is not asked: every one since OpenSSL 1.0.2 can. Each run of
// postconf or postmap has five seconds, and 256 KB to say. Nothing is written or started else.
//
// Errors: ErrExamine, where something could not be read or run, which may pass; and
// ErrUnlike, where what was read might mean something else to Postfix.
//
// The package asks no resolver and decides nothing.
package postfix
