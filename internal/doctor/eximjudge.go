package doctor

import (
	"cmp"
	"fmt"
	"strings"

	"tlsverdict/internal/exim"
	"tlsverdict/internal/finding"
	"tlsverdict/internal/snippet"
)

// What is looked at of Exim.
const (
	EximAsked      Check = "exim-settings"
	EximConfig     Check = "exim-config"
	EximVersion    Check = "exim-version"
	EximBuild      Check = "exim-build"
	EximRouters    Check = "exim-routers"
	EximSocket     Check = "exim-socket"
	EximTransports Check = "exim-transports"
	EximResolver   Check = "exim-resolver"
	EximTrustAD    Check = "exim-trust-ad"
	EximDNSSEC     Check = "exim-dnssec"
	EximProtocols  Check = "exim-protocols"
)

// eximAsks is the first of contrib's routers.
const eximAsks = "tlsverdict_ask"

func eximKinds() map[Check]Kind {
	const noDANE = "Exim believes no TLSA record: mail that must go by DANE waits, and where only some hosts have records those are not used"
	return map[Check]Kind{
		EximAsked: {
			Severity: finding.Error, Title: "Exim tells its settings",
			Why: "what it does with a verdict is not known", Mend: "run doctor as root",
		},
		EximConfig: {
			Severity: finding.Error, Title: "Exim can read its configuration",
			Why: "it delivers nothing, and does not start again", Mend: "the line that `exim -bV` names",
		},
		EximVersion: {
			Severity: finding.Error, Title: "Exim is 4.96 or later",
			Why: "contrib's routers and transports need what older ones have not", Mend: "a later Exim",
		},
		EximBuild: {
			Severity: finding.Error, Title: "Exim is built with TLS and DANE",
			Why: "without them it cannot do what a verdict demands, and contrib's transports cannot be read", Mend: "an Exim that is, as every distribution's", Cite: "RFC 7672 §2.2",
		},
		EximRouters: {
			Severity: finding.Error, Title: "policyd's routers come before the one for remote domains",
			Why: "mail to remote domains is routed without a question to policyd: no verdict is enforced", Mend: "what `policyd snippet exim` prints",
		},
		EximSocket: {
			Severity: finding.Error, Title: "Exim's user can ask policyd where the routers do",
			Why: "all mail to remote domains is deferred", Mend: "`TLSVERDICT_POLICYD` as policyd listens",
		},
		EximTransports: {
			Severity: finding.Error, Title: "policyd's transports demand what they are for",
			Why: "a transport that was changed, or is given more options, delivers with less than the verdict demands, or returns mail that should wait", Mend: "contrib's files as they are",
		},
		EximResolver: {
			Severity: finding.Error, Title: "the resolver that Exim asks validates",
			Why: noDANE, Mend: "`apt install unbound`, and let `/etc/resolv.conf` name 127.0.0.1 and nothing else", Cite: "RFC 4035 §3.2.3",
		},
		EximTrustAD: {
			Severity: finding.Error, Title: "the C library hands Exim what the resolver says of DNSSEC",
			Why: "it takes the AD bit away unless /etc/resolv.conf has the option trust-ad. " + noDANE, Mend: "`echo 'options edns0 trust-ad' >>/etc/resolv.conf`", Cite: "RFC 4035 §4.9.3",
		},
		EximDNSSEC: {
			Severity: finding.Error, Title: "Exim asks for DNSSEC",
			Why: noDANE, Mend: "`dns_dnssec_ok = 1` in the main section", Cite: "RFC 4035 §3.2.1",
		},
		EximProtocols: {
			Severity: finding.Warning, Title: "MTA-STS has TLS 1.2 or later",
			Why: "a host that speaks no more than TLS 1.0 or 1.1 passes", Mend: "`openssl_options = +no_tlsv1 +no_tlsv1_1` in the main section, or contrib's transports as they are", Cite: "RFC 8461 §7",
		},
	}
}

// exim judges it.
func (r *report) exim() {
	x := &r.MTAs.Exim
	r.subject = "Exim"
	if x.Unseen != "" {
		r.unseen(EximAsked, "exim -bV", x.Unseen)
		return
	}
	if x.Setup.Version == "" {
		return
	}
	r.subject = "Exim " + x.Setup.Version
	r.eximProgram(x)
	r.eximResolver(x)
	switch {
	case x.Setup.Broken != "":
		r.wrong(EximConfig, "exim -bV", x.Setup.Broken, words("mend that line; exim -bV says whether it is"))
	case x.Setup.Unread != "":
		r.well(EximConfig, "exim -bV", x.Setup.Config)
		r.unseen(EximAsked, "exim -bP", x.Setup.Unread)
	default:
		r.well(EximConfig, "exim -bV", x.Setup.Config)
		r.eximRouters(x)
		r.eximTransports(x)
		r.eximProtocols(x)
		r.eximDNSSEC(x)
	}
}

// eximProgram judges what was installed.
func (r *report) eximProgram(x *Exim) {
	if snippet.TooOld("exim", x.Setup.Version) {
		r.wrong(EximVersion, "exim -bV", "Exim "+x.Setup.Version, words("apt install exim4-daemon-light/bookworm, or later"))
	} else {
		r.well(EximVersion, "exim -bV", x.Setup.Version)
	}
	switch {
	case x.Setup.TLS == "":
		r.wrong(EximBuild, "exim -bV", "it is built without TLS", words("install an Exim with TLS and DANE"))
	case !x.Setup.DANE:
		r.wrong(EximBuild, "exim -bV", "it is built with "+x.Setup.TLS+", and without DANE", words("install an Exim with DANE"))
	default:
		r.well(EximBuild, "exim -bV", x.Setup.TLS+", DANE")
	}
}

// eximResolver judges what Exim's belief in DNSSEC stands on.
func (r *report) eximResolver(x *Exim) {
	what := "questions with AD to the resolvers of " + x.Resolv.File
	switch found, seen := x.Resolv.unproven(); {
	case !seen:
		r.unseen(EximResolver, what, found)
	case found != "":
		r.wrong(EximResolver, what, found, words("apt install unbound; let /etc/resolv.conf name 127.0.0.1 and nothing else"))
	default:
		r.well(EximResolver, what, addresses(x.Resolv.Servers)+" validates")
	}
	if !x.TrustAD {
		r.wrong(EximTrustAD, x.Resolv.File, "it has no option trust-ad", "echo 'options edns0 trust-ad' >>/etc/resolv.conf")
		return
	}
	r.well(EximTrustAD, x.Resolv.File, "options trust-ad")
}

// eximRouters judges whether policyd is asked, and where.
func (r *report) eximRouters(x *Exim) {
	asks, remote := x.Setup.Router(eximAsks), x.Setup.Remote()
	mend := words("do what this prints:") + "\ntlsverdict-policyd snippet exim"
	switch {
	case asks < 0:
		r.wrong(EximRouters, "exim -bP routers", "there is no router "+eximAsks, mend)
		return
	case remote >= 0 && remote < asks:
		found := fmt.Sprintf("the router %s, which looks remote domains up, comes before %s", x.Setup.Routers[remote].Name, eximAsks)
		r.wrong(EximRouters, "exim -bP routers", found, words("move the line that includes contrib's routers in front of %s", x.Setup.Routers[remote].Name))
	default:
		r.well(EximRouters, "exim -bP routers", eximAsks+" comes first")
	}
	r.eximSocket(x)
}

func (r *report) eximSocket(x *Exim) {
	looked := "a question to " + x.Policyd + " as " + x.Setup.User
	a := &x.Answer
	switch {
	case a.Policyd:
		r.well(EximSocket, looked, x.Policyd)
	case a.Unasked:
		r.unseen(EximSocket, looked, a.Problem)
	case a.Denied && strings.HasPrefix(x.Policyd, "/"):
		r.wrong(EximSocket, looked, x.Policyd+": "+a.Problem, words("socket_mode = \"0666\" in [socketmap] of policyd.toml, and until policyd is started again:")+"\nchmod 0666 "+x.Policyd)
	default:
		found := x.Policyd + ": " + a.Problem
		if a.Problem == "" {
			found = x.Policyd + ": what listens there answers " + a.Reply + ", and is not policyd"
		}
		r.wrong(EximSocket, looked, found, r.eximElsewhere(x))
	}
}

// eximElsewhere has the routers ask where policyd answers. A macro must not be defined
// twice: one that is not as contrib has it stands somewhere already.
func (r *report) eximElsewhere(x *Exim) string {
	address := r.eximAddress()
	switch {
	case address == "" || address == x.Policyd:
		return "systemctl enable --now tlsverdict-policyd"
	case x.Policyd == eximDefault:
		return words("in %s, in front of what includes contrib's macros:", eximMacrosIn(x.Setup)) + "\n# " + eximPolicyd + " = " + address
	}
	return eximReplace(x.Setup, eximPolicyd, address)
}

// eximReplace sets what is set already, in whatever file of the configuration it stands.
func eximReplace(s exim.Setup, name, value string) string {
	files, then := s.Config, "systemctl restart exim4"
	if s.Debian != (exim.Debian{}) {
		files, then = "/etc/exim4/exim4.conf.localmacros /etc/exim4/exim4.conf.template", "update-exim4.conf && "+then
		if s.Debian.Split {
			files = "/etc/exim4/conf.d/main/*"
		}
	}
	return fmt.Sprintf("sed -i 's|^%s *=.*|%s = %s|' %s && %s", name, name, value, files, then)
}

// eximAddress is where policyd can be asked, as the routers write it: the first of its
// sockets that answers, or "".
func (r *report) eximAddress() string {
	for _, l := range r.Policyd.Listen {
		if l.Answer.Policyd {
			return strings.TrimPrefix(l.Address.String(), "unix:")
		}
	}
	return ""
}

// eximMacrosIn is the file that macros are set in, in front of those of contrib.
func eximMacrosIn(s exim.Setup) string {
	switch {
	case s.Debian == exim.Debian{}:
		return s.Config
	case s.Debian.Split:
		return "/etc/exim4/conf.d/main/000_localmacros"
	}
	return "/etc/exim4/exim4.conf.localmacros"
}

// demand is what an option of a transport must be.
type demand struct{ option, want string }

// always is what each of policyd's transports has, and demands what one has beside it: by
// its name without "_smtps".
func always() []demand {
	return []demand{{"multi_domain", "no"}, {"connection_max_messages", "1"}, {"hosts_avoid_tls", ""}, {"hosts_require_dane", ""}, {"dnssec_request_domains", "*"}, {"fallback_hosts", ""}}
}

func demands() map[string][]demand {
	verified := []demand{{"hosts_require_tls", "*"}, {"tls_verify_hosts", "*"}, {"tls_verify_cert_hostnames", "*"}}
	return map[string][]demand{
		"tlsverdict_encrypt":   {{"hosts_require_tls", "*"}},
		"tlsverdict_secure":    append([]demand{{"hosts_try_dane", ""}}, verified...),
		"tlsverdict_dane":      {{"hosts_try_dane", "*"}},
		"tlsverdict_dane_only": append([]demand{{"hosts_try_dane", "*"}, {"tls_verify_certificates", "/dev/null"}}, verified...),
	}
}

// eximTransports judges policyd's transports: each must be there, and demand what it is
// for.
func (r *report) eximTransports(x *Exim) {
	if x.Setup.Router(eximAsks) < 0 {
		return // told already
	}
	const looked = "exim -bP transports"
	wrong := false
	there := make(map[string]bool)
	for _, t := range x.Setup.Transports {
		name := strings.TrimSuffix(t.Name, "_smtps")
		special, ours := demands()[name]
		if !ours {
			continue
		}
		there[t.Name] = true
		for _, d := range append(always(), special...) {
			if got, known := t.Options[d.option]; known && got != d.want {
				r.wrong(EximTransports, looked, fmt.Sprintf("%s has %s = %s", t.Name, d.option, got), eximRestore(x.Setup, d))
				wrong = true
			}
		}
	}
	for name := range demands() {
		if !there[name] {
			r.wrong(EximTransports, looked, "there is no transport "+name, words("do what this prints:")+"\ntlsverdict-policyd snippet exim")
			wrong = true
		}
	}
	if !wrong {
		r.well(EximTransports, looked, fmt.Sprintf("%d of policyd's", len(there)))
	}
}

// eximRestore is what puts an option back: contrib's files set it, or else a file of
// options of the administrator does.
func eximRestore(s exim.Setup, d demand) string {
	if options := s.Macros["TLSVERDICT_OPTIONS"]; options != "" && d.want == "" {
		return fmt.Sprintf("sed -i '/^ *%s *=/d' %s", d.option, options)
	}
	dir := cmp.Or(s.Macros["TLSVERDICT_DIR"], "/usr/share/tlsverdict/exim")
	return words("contrib's files in %s were changed; put them back:", dir) + "\napt-get install --reinstall tlsverdict-policyd"
}

// eximProtocols judges what TLS is spoken where MTA-STS demands it.
func (r *report) eximProtocols(x *Exim) {
	if x.Setup.TLS == "OpenSSL" {
		options := x.Setup.Options[exim.OpenSSLOptions]
		if !strings.Contains(options, "+no_tlsv1 ") || !strings.Contains(options, "+no_tlsv1_1") {
			// OpenSSL 3 has no older ones unless told to.
			r.add(Finding{
				Check: EximProtocols, Severity: finding.Notice, Looked: "exim -bP openssl_options", Found: "openssl_options = " + options,
				In: x.Setup.Config, Mend: "openssl_options = +no_sslv3 +no_tlsv1 +no_tlsv1_1",
			})
			return
		}
		r.well(EximProtocols, "exim -bP openssl_options", "openssl_options = "+options)
		return
	}
	for _, t := range x.Setup.Transports {
		if strings.TrimSuffix(t.Name, "_smtps") != "tlsverdict_secure" {
			continue
		}
		ciphers := t.Options["tls_require_ciphers"]
		if !strings.Contains(ciphers, "-VERS-ALL") || strings.Contains(ciphers, "+VERS-TLS1.0") || strings.Contains(ciphers, "+VERS-TLS1.1") {
			r.wrong(EximProtocols, "exim -bP transports", t.Name+" has tls_require_ciphers = "+ciphers, eximRestore(x.Setup, demand{"tls_require_ciphers", ciphers}))
			return
		}
	}
	r.well(EximProtocols, "exim -bP transports", "TLS 1.2 or later")
}

// eximDNSSEC judges whether it asks for signatures at all.
func (r *report) eximDNSSEC(x *Exim) {
	const looked = "exim -bP dns_dnssec_ok"
	if value := x.Setup.Options[exim.DNSSECOk]; value == "0" {
		r.wrong(EximDNSSEC, looked, "dns_dnssec_ok = 0", eximReplace(x.Setup, exim.DNSSECOk, "1"))
		return
	}
	r.well(EximDNSSEC, looked, "dns_dnssec_ok = "+x.Setup.Options[exim.DNSSECOk])
}
