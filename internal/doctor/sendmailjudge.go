package doctor

import (
	"cmp"
	"path"
	"strings"

	"tlsverdict/internal/finding"
	"tlsverdict/internal/sendmail"
	"tlsverdict/internal/snippet"
)

// What is looked at of Sendmail.
const (
	SendmailAsked     Check = "sendmail-settings"
	SendmailVersion   Check = "sendmail-version"
	SendmailBuild     Check = "sendmail-build"
	SendmailMade      Check = "sendmail-made"
	SendmailFeature   Check = "sendmail-feature"
	SendmailMaps      Check = "sendmail-maps"
	SendmailSocket    Check = "sendmail-socket"
	SendmailCAs       Check = "sendmail-ca"
	SendmailDANE      Check = "sendmail-dane"
	SendmailSessions  Check = "sendmail-sessions"
	SendmailProtocols Check = "sendmail-protocols"
)

func sendmailKinds() map[Check]Kind {
	return map[Check]Kind{
		SendmailAsked: {
			Severity: finding.Error, Title: "Sendmail tells its settings",
			Why: "what it does with a verdict is not known", Mend: "run doctor as root",
		},
		SendmailVersion: {
			Severity: finding.Error, Title: "Sendmail is 8.17 or later",
			Why: "FEATURE(`tlsverdict') needs what older ones have not", Mend: "a later Sendmail",
		},
		SendmailBuild: {
			Severity: finding.Error, Title: "Sendmail is built with what FEATURE(`tlsverdict') needs",
			Why: "it cannot ask policyd, or cannot compare the names in certificates", Mend: "a Sendmail that is, as Debian's",
		},
		SendmailMade: {
			Severity: finding.Warning, Title: "sendmail.cf is made of sendmail.mc as it is now",
			Why: "what was changed in sendmail.mc does not hold yet", Mend: "`make -C /etc/mail && /etc/init.d/sendmail restart`",
		},
		SendmailFeature: {
			Severity: finding.Error, Title: "sendmail.mc has FEATURE(`tlsverdict'), and not FEATURE(`sts')",
			Why: "mail goes out without a question to policyd; and FEATURE(`sts') enforces nothing but MTA-STS, where a session that was begun for a lax domain carries mail of a strict one", Mend: "what `policyd snippet sendmail` prints",
		},
		SendmailMaps: {
			Severity: finding.Error, Title: "the maps that the rules ask are there",
			Why: "without the map tls nothing is enforced; without DANE, what MTA-STS demands of a domain with DANE is in the map sts", Mend: "what `policyd snippet sendmail` prints", Cite: "RFC 8461 §2",
		},
		SendmailSocket: {
			Severity: finding.Error, Title: "Sendmail can ask policyd where its rules do",
			Why: "all mail to remote domains is deferred", Mend: "`chmod go-w` for the directories of the socket's path, or an address at which policyd listens",
		},
		SendmailCAs: {
			Severity: finding.Error, Title: "Sendmail knows the public CAs",
			Why: "no certificate counts (verify=FAIL), and mail for every domain with MTA-STS or a prefix waits", Mend: "define(`confCACERT', ...) and define(`confCACERT_PATH', ...) in sendmail.mc", Cite: "RFC 8461 §4.2",
		},
		SendmailDANE: {
			Severity: finding.Warning, Title: "Sendmail does DANE, with a resolver that validates",
			Why: "without it TLS is demanded in the place of DANE, with whatever key; with a resolver that does not validate, mail that must go by DANE waits", Mend: "define(`confDANE', `true') in sendmail.mc, and a validating resolver in /etc/resolv.conf", Cite: "RFC 7672 §2.2",
		},
		SendmailSessions: {
			Severity: finding.Error, Title: "one session at a time is kept, and no host's failure beyond the process",
			Why: "the names in a certificate are those of the latest handshake, so that another session that is used again would be judged by them; and a host that is not good enough for one domain would count as down for all", Mend: "no confMCI_CACHE_SIZE and confHOST_STATUS_DIRECTORY below FEATURE(`tlsverdict')",
		},
		SendmailProtocols: {
			Severity: finding.Notice, Title: "TLS below 1.2 is switched off for what is sent",
			Why: "Sendmail leaves it to OpenSSL, whose own configuration may allow TLS 1.0 and 1.1", Mend: "define(`confCLIENT_SSL_OPTIONS', ...) in sendmail.mc", Cite: "RFC 8461 §7",
		},
	}
}

// remake is what has a change of sendmail.mc hold.
const remake = "make -C /etc/mail && /etc/init.d/sendmail restart"

// sendmail judges it.
func (r *report) sendmail() {
	s := &r.MTAs.Sendmail
	r.subject = "Sendmail"
	if s.Unseen != "" {
		r.unseen(SendmailAsked, "sendmail -d0.13 -bt", s.Unseen)
		return
	}
	if s.Setup.Version == "" {
		return
	}
	r.subject = "Sendmail " + s.Setup.Version
	r.sendmailProgram(s)
	if s.Setup.Stale {
		r.wrong(SendmailMade, sendmail.MC, sendmail.MC+" was changed after "+sendmail.CF+" was made", remake)
	} else {
		r.well(SendmailMade, sendmail.MC, sendmail.CF)
	}
	r.sendmailCAs(s)
	r.sendmailProtocols(s)
	asks := r.sendmailFeature(s)
	if asks || !s.Setup.Compiled["DANE"] {
		r.sendmailDANE(s)
	}
	if asks {
		r.sendmailMaps(s)
		r.sendmailSessions(s)
	}
}

// inMC adds a finding that lines of sendmail.mc in front of the feature mend. One that is
// there goes: the last definition would hold, and could stand below.
func (r *report) inMC(c Check, looked, found string, settings ...[2]string) {
	script := "sed -i"
	for _, s := range settings {
		script += " -e \"/^define(.*" + s[0] + "'/d\""
	}
	for _, s := range settings {
		script += " -e \"/^FEATURE(.tlsverdict/i define(\\`" + s[0] + "', \\`" + s[1] + "')dnl\""
	}
	r.wrong(c, looked, found, script+" "+sendmail.MC+" && "+remake)
}

func (r *report) sendmailProgram(s *Sendmail) {
	const looked = "sendmail -d0.13 -bt"
	if snippet.TooOld("sendmail", s.Setup.Version) {
		r.wrong(SendmailVersion, looked, "Sendmail "+s.Setup.Version, words("install Sendmail 8.17 or later"))
	} else {
		r.well(SendmailVersion, looked, s.Setup.Version)
	}
	if lacks := s.Setup.Lacks(); len(lacks) > 0 {
		r.wrong(SendmailBuild, looked, "it is built without "+strings.Join(lacks, ", "), words("install a Sendmail that is built with them"))
		return
	}
	r.well(SendmailBuild, looked, strings.Join(sendmail.Needs(), ", "))
}

// sendmailFeature judges whether policyd is asked, and says so.
func (r *report) sendmailFeature(s *Sendmail) bool {
	mend := words("do what this prints:") + "\ntlsverdict-policyd snippet sendmail"
	switch {
	case s.Setup.Asks && !s.Setup.STS:
		r.well(SendmailFeature, sendmail.CF, "the rules of FEATURE(`tlsverdict')")
		return true
	case s.Setup.Asks:
		r.wrong(SendmailFeature, sendmail.CF, "FEATURE(`sts') is there beside FEATURE(`tlsverdict')", "sed -i '/^FEATURE(`sts'\\''/d' "+sendmail.MC+" && "+remake)
	case s.Setup.STS:
		r.wrong(SendmailFeature, sendmail.CF, "FEATURE(`sts') is there, and not the second map: FEATURE(`tlsverdict') stands in its place", mend)
	default:
		r.wrong(SendmailFeature, sendmail.CF, "the rules of FEATURE(`tlsverdict') are not there", mend)
	}
	return false
}

// dane reports whether it does DANE, or tries to.
func (s *Sendmail) dane() bool { return strings.EqualFold(s.Setup.Options["DANE"], "true") }

func (r *report) sendmailMaps(s *Sendmail) {
	mend := words("sendmail.cf was changed by hand:") + "\n" + remake
	switch {
	case s.Setup.Address("tls") == "":
		r.wrong(SendmailMaps, sendmail.CF, "the rules ask a socket map tls, and there is none", mend)
		return
	case !s.dane() && s.Setup.Address("sts") == "":
		r.wrong(SendmailMaps, sendmail.CF, "without DANE the rules ask a second socket map, sts, and there is none", mend)
	default:
		r.well(SendmailMaps, sendmail.CF, "tls at "+s.Setup.Address("tls"))
	}
	r.sendmailSocket(s)
}

func (r *report) sendmailSocket(s *Sendmail) {
	address := s.Setup.Address("tls")
	looked, a := "a question to "+address, &s.Answer
	switch {
	case s.Writable != "":
		r.wrong(SendmailSocket, looked, address+": others than its owner may write to "+s.Writable+", which Sendmail calls unsafe", "chmod go-w "+s.Writable)
	case a.Policyd:
		r.well(SendmailSocket, looked, address)
	case a.Unasked, a.Denied:
		r.unseen(SendmailSocket, looked, a.Problem)
	case a.Problem != "":
		r.wrong(SendmailSocket, looked, address+": "+a.Problem, words("let policyd listen there, or do what this prints:")+"\ntlsverdict-policyd snippet sendmail")
	default:
		r.wrong(SendmailSocket, looked, address+": what listens there answers "+a.Reply+", and is not policyd", words("name another address: do what this prints:")+"\ntlsverdict-policyd snippet sendmail")
	}
}

func (r *report) sendmailCAs(s *Sendmail) {
	file, dir := s.Setup.Options["CACertFile"], s.Setup.Options["CACertPath"]
	bundle := cmp.Or(s.Bundle, "/etc/ssl/certs/ca-certificates.crt")
	lines := [][2]string{{"confCACERT_PATH", path.Dir(bundle)}, {"confCACERT", bundle}}
	switch {
	case file == "" || dir == "":
		r.inMC(SendmailCAs, sendmail.CF, "CACertFile = "+file+", CACertPath = "+dir+": Sendmail wants both", lines...)
	case s.NoCAs != "":
		r.inMC(SendmailCAs, file, "CACertFile: "+s.NoCAs, lines...)
	case s.CAs == 0:
		r.inMC(SendmailCAs, file, file+" holds no certificate", lines...)
	default:
		r.well(SendmailCAs, file, file)
	}
}

func (r *report) sendmailDANE(s *Sendmail) {
	what := "questions with AD to the resolvers of " + s.Resolv.File
	found, seen := s.Resolv.unproven()
	switch {
	case !s.Setup.Compiled["DANE"]:
		r.add(Finding{Check: SendmailDANE, Severity: finding.Notice, Looked: "sendmail -d0.13 -bt", Found: "it is built without DANE, which Sendmail has from 8.18 on", Mend: words("upgrade to 8.18; until then mail goes with TLS, and whatever key")})
	case !seen:
		r.unseen(SendmailDANE, what, found)
	case s.dane() && found == "":
		r.well(SendmailDANE, what, addresses(s.Resolv.Servers)+" validates")
	case s.dane():
		r.add(Finding{Check: SendmailDANE, Severity: finding.Error, Looked: what, Found: "DANE=true, and " + found, Mend: words("apt install unbound; let /etc/resolv.conf name 127.0.0.1 and nothing else")})
	case found == "":
		r.inMC(SendmailDANE, sendmail.CF, "DANE is off, and "+addresses(s.Resolv.Servers)+" validates", [2]string{"confDANE", "true"})
	default:
		r.add(Finding{Check: SendmailDANE, Severity: finding.Warning, Looked: what, Found: "DANE is off, and " + found, Mend: words("apt install unbound; let /etc/resolv.conf name 127.0.0.1; then do what this prints:") + "\ntlsverdict-policyd snippet sendmail"})
	}
}

func (r *report) sendmailSessions(s *Sendmail) {
	size, status := s.Setup.Options["ConnectionCacheSize"], s.Setup.Options["HostStatusDirectory"]
	switch {
	case size != "1":
		r.wrong(SendmailSessions, sendmail.CF, "ConnectionCacheSize="+size, words("take confMCI_CACHE_SIZE, and any line \"O ConnectionCacheSize\", out of sendmail.mc below FEATURE(`tlsverdict'):")+"\nsed -i -e '/^O ConnectionCacheSize/d' -e '/confMCI_CACHE_SIZE/d' "+sendmail.MC+" && "+remake)
	case status != "":
		r.add(Finding{
			Check: SendmailSessions, Severity: finding.Warning, Looked: sendmail.CF, Found: "HostStatusDirectory=" + status,
			Mend: "sed -i '/confHOST_STATUS_DIRECTORY/d' " + sendmail.MC + " && " + remake,
		})
	default:
		r.well(SendmailSessions, sendmail.CF, "ConnectionCacheSize=1")
	}
}

func (r *report) sendmailProtocols(s *Sendmail) {
	options := s.Setup.Options["ClientSSLOptions"]
	words := strings.Fields(options)
	off := func(name string) bool {
		for _, w := range words {
			if strings.EqualFold(strings.TrimPrefix(w, "+"), name) {
				return true
			}
		}
		return false
	}
	if off("SSL_OP_NO_TLSv1") && off("SSL_OP_NO_TLSv1_1") {
		r.well(SendmailProtocols, sendmail.CF, "ClientSSLOptions="+options)
		return
	}
	r.inMC(SendmailProtocols, sendmail.CF, "ClientSSLOptions="+options, [2]string{"confCLIENT_SSL_OPTIONS", strings.TrimSpace(options + " +SSL_OP_NO_SSLv3 +SSL_OP_NO_TLSv1 +SSL_OP_NO_TLSv1_1")})
}
