package verdict

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/signal"
)

const (
	tlsText    = "v=SMTPSTRICT1; tls=required"
	webpkiText = tlsText + "; auth=webpki"
)

// strictly switches both records on, with none of them there.
func strictly(f Facts) Facts {
	f.Rules.TXT, f.Rules.RR, f.Rules.RRType = Enforce, Enforce, signal.DefaultRRType
	f.TXT, f.RR = absent[string](Secure), absent[string](Secure)
	return f
}

func withTXT(f Facts, p Proof, texts ...string) Facts {
	f = strictly(f)
	f.TXT = found(p, texts...)
	return f
}

func withRR(f Facts, p Proof, texts ...string) Facts {
	f = strictly(f)
	f.RR = found[string](p)
	for _, text := range texts {
		f.RR.Records = append(f.RR.Records, signal.RData(text))
	}
	return f
}

// aliased makes the domain a signed CNAME into an unsigned zone: its MX records are not
// secure, and a record below its own name can be.
func aliased(f Facts) Facts {
	f.MX.Proof, f.MX.Canonical = Insecure, "target.example"
	return f
}

func asHost(f Facts, class string) Facts {
	f.MX, f.Destination.Host, f.Hosts = Answer[MX]{}, true, []Host{host(domain, class)}
	return f
}

func bogus[T any]() Answer[T] {
	return Answer[T]{Outcome: Failed, Proof: Bogus, Failure: &Failure{Remote, "bogus: bad signature"}}
}

// TestRecords is what the TXT record and the record type do to the verdict, by
// themselves and beside every other signal.
func TestRecords(t *testing.T) {
	plain2 := func() Facts { return facts(Secure, "none", "none") }
	for _, tc := range []struct {
		name     string
		facts    Facts
		verdict  string
		source   Source
		decisive Code
	}{
		{"txt tls", withTXT(plain2(), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"txt webpki", withTXT(plain2(), Secure, webpkiText), "secure", FromTXT, TXTWebPKI},
		{"rr tls", withRR(plain2(), Secure, tlsText), "encrypt", FromRR, RREncrypt},
		{"rr webpki", withRR(plain2(), Secure, webpkiText), "secure", FromRR, RRWebPKI},
		{"hosts in unsigned zones", withTXT(facts(Secure, "unsigned"), Secure, webpkiText), "secure", FromTXT, TXTWebPKI},
		{"both, the same", edit(withRR(plain2(), Secure, tlsText), func(f *Facts) { f.TXT = found(Secure, tlsText) }), "encrypt", FromTXT, TXTEncrypt},
		{"both, txt more", edit(withRR(plain2(), Secure, tlsText), func(f *Facts) { f.TXT = found(Secure, webpkiText) }), "secure", FromTXT, TXTWebPKI},
		{"both, rr more", edit(withRR(plain2(), Secure, webpkiText), func(f *Facts) { f.TXT = found(Secure, tlsText) }), "secure", FromRR, RRWebPKI},
		{"neither", strictly(plain2()), "none", FromNothing, Nothing},
		{"somebody else's", withTXT(plain2(), Secure, "v=spf1 -all"), "none", FromNothing, Nothing},
		{"no MX records", edit(withTXT(facts(Secure), Secure, webpkiText), func(f *Facts) { f.MX, f.Hosts = absent[MX](Secure), []Host{host(domain, "none")} }), "secure", FromTXT, TXTWebPKI},
		{"a host", withTXT(asHost(plain2(), "none"), Secure, webpkiText), "secure", FromTXT, TXTWebPKI},
		{"a host in an unsigned zone, its record signed all the same", withTXT(asHost(plain2(), "unsigned"), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},

		// Not believed.
		{"unsigned record", withTXT(plain2(), Insecure, tlsText), "none", FromNothing, Nothing},
		{"unsigned zone", withTXT(facts(Insecure, "unsigned"), Insecure, tlsText), "none", FromNothing, Nothing},
		{"two", withTXT(plain2(), Secure, tlsText, tlsText), "none", FromNothing, Nothing},
		{"malformed", withTXT(plain2(), Secure, "v=SMTPSTRICT1; tls=maybe"), "none", FromNothing, Nothing},
		{"two of the type", withRR(plain2(), Secure, tlsText, webpkiText), "none", FromNothing, Nothing},
		{"another use of the type", edit(strictly(plain2()), func(f *Facts) { f.RR = found(Secure, "\x01\x02\x03") }), "none", FromNothing, Nothing},
		{"forged MX names", withTXT(aliased(facts(Secure, "unsigned")), Secure, webpkiText), "encrypt", FromTXT, TXTEncrypt},
		{"auth that is not known", withTXT(plain2(), Secure, tlsText+"; auth=dane"), "encrypt", FromTXT, TXTEncrypt},
		{"DNSSEC off", edit(withTXT(facts(Indeterminate), Indeterminate, tlsText), func(f *Facts) { f.Rules.WithoutDNSSEC = true }), "none", FromNothing, Nothing},

		// Lookups that fail.
		{"txt fails", edit(strictly(plain2()), func(f *Facts) { f.TXT = servfail[string]() }), "defer", FromTXT, TXTFailed},
		{"txt bogus", edit(strictly(plain2()), func(f *Facts) { f.TXT = bogus[string]() }), "defer", FromTXT, TXTFailed},
		{"txt unproven", edit(strictly(plain2()), func(f *Facts) { f.TXT = found(Indeterminate, tlsText) }), "defer", FromTXT, TXTFailed},
		{"denial unproven", edit(strictly(plain2()), func(f *Facts) { f.TXT = absent[string](Indeterminate) }), "defer", FromTXT, TXTFailed},
		{"rr fails", edit(strictly(plain2()), func(f *Facts) { f.RR = servfail[string]() }), "defer", FromRR, RRFailed},
		{"txt tls, rr fails", edit(withTXT(plain2(), Secure, tlsText), func(f *Facts) { f.RR = servfail[string]() }), "defer", FromRR, RRFailed},
		{"txt webpki, rr fails", edit(withTXT(plain2(), Secure, webpkiText), func(f *Facts) { f.RR = servfail[string]() }), "secure", FromTXT, TXTWebPKI},
		{"txt fails, rr webpki", edit(withRR(plain2(), Secure, webpkiText), func(f *Facts) { f.TXT = servfail[string]() }), "secure", FromRR, RRWebPKI},
		{"txt fails in an unsigned zone", edit(strictly(facts(Insecure, "unsigned")), func(f *Facts) { f.TXT, f.RR = servfail[string](), servfail[string]() }), "none", FromNothing, Nothing},
		{"txt fails, a host in an unsigned zone", edit(strictly(asHost(plain2(), "unsigned")), func(f *Facts) { f.TXT, f.RR = servfail[string](), servfail[string]() }), "none", FromNothing, Nothing},
		{"txt fails, a host in a signed zone", edit(strictly(asHost(plain2(), "none")), func(f *Facts) { f.TXT = servfail[string]() }), "defer", FromTXT, TXTFailed},
		{"txt fails behind an alias", edit(strictly(aliased(facts(Secure, "unsigned"))), func(f *Facts) { f.TXT = servfail[string]() }), "defer", FromTXT, TXTFailed},
		{"nothing is proven here", withTXT(facts(Indeterminate, "none"), Secure, tlsText), "defer", FromNothing, NoProof},
		{"nothing is proven here, MTA-STS", sts(withTXT(facts(Indeterminate, "none"), Indeterminate, tlsText)), "secure", FromSTS, STSEnforce},
		{"mx fails", edit(withTXT(plain2(), Secure, tlsText), func(f *Facts) { f.MX = servfail[MX]() }), "defer", FromNothing, MXFailed},

		// Modes.
		{"observed", edit(withTXT(plain2(), Secure, webpkiText), func(f *Facts) { f.Rules.TXT = Observe }), "none", FromNothing, Nothing},
		{"observed, fails", edit(strictly(plain2()), func(f *Facts) { f.Rules.TXT, f.TXT = Observe, servfail[string]() }), "none", FromNothing, Nothing},
		{"observed, never asked", edit(strictly(plain2()), func(f *Facts) { f.Rules.TXT, f.TXT = Observe, Answer[string]{} }), "none", FromNothing, Nothing},
		{"off", edit(withTXT(plain2(), Secure, webpkiText), func(f *Facts) { f.Rules.TXT = Off }), "none", FromNothing, Nothing},
		{"rr observed", edit(withRR(plain2(), Secure, webpkiText), func(f *Facts) { f.Rules.RR = Observe }), "none", FromNothing, Nothing},
		{"rr off, txt on", edit(withRR(plain2(), Secure, webpkiText), func(f *Facts) { f.Rules.RR, f.TXT = Off, found(Secure, tlsText) }), "encrypt", FromTXT, TXTEncrypt},

		// Beside the others: neither is weakened.
		{"beside DANE", withTXT(facts(Secure, "usable", "usable"), Secure, tlsText), "dane-only", FromDANE, DANEAll},
		{"beside some DANE", withTXT(facts(Secure, "usable", "none"), Secure, webpkiText), "dane-only", FromDANE, DANERaised},
		{"TLS beside some DANE", withTXT(facts(Secure, "usable", "none"), Secure, tlsText), "dane-only", FromDANE, DANERaisedTLS},
		{"fails beside some DANE", edit(strictly(facts(Secure, "usable", "none")), func(f *Facts) { f.TXT = servfail[string]() }), "dane-only", FromDANE, DANERaised},
		{"TLS beside unusable TLSA", withTXT(facts(Secure, "unusable", "none"), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"webpki beside unusable TLSA", withTXT(facts(Secure, "unusable"), Secure, webpkiText), "secure", FromTXT, TXTWebPKI},
		{"fails beside unusable TLSA", edit(strictly(facts(Secure, "unusable")), func(f *Facts) { f.TXT = servfail[string]() }), "defer", FromTXT, TXTFailed},
		{"webpki beside a hidden TLSA", withTXT(facts(Secure, "none", "tlsa-fails"), Secure, webpkiText), "secure", FromTXT, DANENarrowed},
		{"TLS beside a hidden TLSA", withTXT(facts(Secure, "none", "tlsa-fails"), Secure, tlsText), "defer", FromDANE, DANEOrTLS},
		{"TLS beside a dead host in an unsigned zone", withTXT(facts(Secure, "none", "unsigned-dead"), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"TLS beside a dead host", withTXT(facts(Secure, "none", "a-fails"), Secure, tlsText), "defer", FromDANE, DANEOrTLS},
		{"all TLSA fail", withTXT(facts(Secure, "tlsa-fails"), Secure, tlsText), "defer", FromDANE, NoHostLeft},
		{"by fingerprint, some DANE", byFingerprint(withTXT(facts(Secure, "usable", "none"), Secure, tlsText)), "fingerprint", FromDANE, Fingerprints},
		{"by fingerprint, a hidden TLSA", byFingerprint(withTXT(facts(Secure, "none", "tlsa-fails"), Secure, tlsText)), "defer", FromDANE, DANEOrTLS},
		{"insecure MX, DANE", withTXT(aliased(facts(Secure, "usable")), Secure, tlsText), "dane", FromDANE, DANEInsecureMX},
		{"insecure MX, some DANE", withTXT(aliased(facts(Secure, "usable", "none")), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"insecure MX, DANE that may be there", withTXT(aliased(facts(Secure, "usable", "tlsa-fails")), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"beside STS", sts(withTXT(plain2(), Secure, tlsText)), "secure", FromSTS, STSEnforce},
		{"fails beside STS", sts(edit(strictly(plain2()), func(f *Facts) { f.TXT = servfail[string]() })), "secure", FromSTS, STSEnforce},
		{"beside STS testing", withSTS(withTXT(plain2(), Secure, tlsText), mtasts.ModeTesting, "*.example.com"), "encrypt", FromTXT, TXTEncrypt},
		{"beside STS that fails", edit(withTXT(plain2(), Secure, tlsText), func(f *Facts) { f.STS.Failure = &STSFailure{} }), "encrypt", FromTXT, TXTEncrypt},
		{"beside STS that is bogus", bogusTXT(withTXT(plain2(), Secure, tlsText)), "defer", FromSTS, STSBogus},
		{"beside the prefix", withTXT(prefixed(plain2(), 2), Secure, tlsText), "secure", FromPrefix, PrefixAll},
		{"beside a mixed prefix", withTXT(prefixed(plain2(), 1), Secure, tlsText), "encrypt", FromTXT, TXTEncrypt},
		{"an override", edit(withTXT(plain2(), Secure, tlsText), func(f *Facts) { f.Override = &Override{} }), "none", FromOverride, OverrideIgnore},

		// Where there is nowhere to deliver to.
		{"nxdomain behind an unsigned alias", edit(withTXT(facts(Secure), Secure, tlsText), func(f *Facts) {
			f.MX = Answer[MX]{Outcome: NXDomain, Proof: Insecure, Canonical: "target.example"}
		}), "encrypt", FromTXT, TXTEncrypt},
		{"nxdomain", edit(withTXT(facts(Secure), Secure, tlsText), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Secure} }), "none", FromNothing, Nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			if r.Verdict.Name() != tc.verdict || r.Source != tc.source {
				t.Errorf("%s from %v, want %s from %v\n%s", r.Verdict.Name(), r.Source, tc.verdict, tc.source, explain(r))
			}
			if got := r.Reasons[len(r.Reasons)-1].Code; got != tc.decisive {
				t.Errorf("the last reason is %s, want %s\n%s", got, tc.decisive, explain(r))
			}
			if _, deferred := r.Verdict.(Defer); deferred && !r.Provisional {
				t.Error("a deferral that is not provisional")
			}
		})
	}
}

// TestRecordNames: a record that asks for certificates asks for those of the MX names.
func TestRecordNames(t *testing.T) {
	for name, tc := range map[string]struct {
		facts Facts
		want  []string
	}{
		"MX":      {withTXT(facts(Secure, "none", "none"), Secure, webpkiText), []string{"mx0.example.com", "mx1.example.com"}},
		"no MX":   {edit(withTXT(facts(Secure), Secure, webpkiText), func(f *Facts) { f.MX, f.Hosts = absent[MX](Secure), []Host{host(domain, "none")} }), []string{domain}},
		"a host":  {withTXT(asHost(facts(Secure), "none"), Secure, webpkiText), []string{domain}},
		"no name": {edit(withTXT(facts(Secure, "none"), Secure, webpkiText), func(f *Facts) { f.MX.Records[0].Host = `a\032b.example` }), nil},
	} {
		switch v := Decide(tc.facts).Verdict.(type) {
		case WebPKI:
			if !slices.Equal(v.Hosts, tc.want) {
				t.Errorf("%s: %v", name, v.Hosts)
			}
		case Defer:
			if tc.want != nil {
				t.Errorf("%s: %+v", name, v)
			}
		default:
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestMissing holds that nothing of which Missing says that it is not needed changes the
// verdict, that what it names does for some answer, and that Decide panics without it.
func TestMissing(t *testing.T) {
	classes := []string{"unproven-gone", "unsigned-gone", "usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails", "gone", "unproven", "unsigned-dead"}
	answers := []Answer[string]{absent[string](Secure), found(Secure, tlsText), found(Secure, webpkiText), servfail[string](), found(Indeterminate, tlsText)}
	needed := 0
	for _, mx := range []Proof{Secure, Insecure, Indeterminate} {
		for _, raise := range []func(Facts) Facts{func(f Facts) Facts { return f }, sts, aliased, bogusTXT, func(f Facts) Facts { return prefixed(f, 2) }, byFingerprint} {
			for _, a := range classes {
				for _, b := range classes {
					f := strictly(raise(facts(mx, a, b)))
					f.TXT, f.RR = Answer[string]{}, Answer[string]{}
					if !missingHolds(t, f, answers) {
						needed++
					}
				}
			}
		}
	}
	if needed < 100 {
		t.Errorf("the record is needed in %d cases only: the test means little", needed)
	}
}

// missingHolds checks one set of facts and reports whether no record is missing.
func missingHolds(t *testing.T, f Facts, answers []Answer[string]) bool {
	t.Helper()
	if Missing(f) == FromNothing {
		without := Decide(f)
		for _, a := range answers {
			if f.unsigned() && a.Outcome != Failed {
				continue // no such answer comes from an unsigned zone
			}
			f.TXT, f.RR = a, a
			if with := Decide(f); !reflect.DeepEqual(with.Verdict, without.Verdict) {
				t.Errorf("MX %v, %d hosts: %s without the record, %s with %v", f.MX.Proof, len(f.Hosts), without.Verdict.Name(), with.Verdict.Name(), a)
			}
		}
		return true
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Decide decided without the record")
			}
		}()
		Decide(f)
	}()
	seen := make(map[string]bool)
	for _, a := range answers {
		f.TXT, f.RR = a, absent[string](Secure)
		seen[Decide(f).Verdict.Name()] = true
	}
	if len(seen) < 2 && !seen["dane-only"] && !seen["defer"] && !seen["fingerprint"] {
		t.Errorf("the record is said to be missing and changes nothing: %v", seen)
	}
	return false
}

// TestRecordsOnlyRaise: whatever a record says, the verdict is no laxer than without it.
func TestRecordsOnlyRaise(t *testing.T) {
	classes := []string{"usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails", "gone", "unsigned-dead"}
	for _, mx := range []Proof{Secure, Insecure} {
		for _, raise := range []func(Facts) Facts{func(f Facts) Facts { return f }, sts, aliased, func(f Facts) Facts { return prefixed(f, 2) }, byFingerprint} {
			for _, a := range classes {
				for _, b := range classes {
					f := raise(facts(mx, a, b))
					before := Decide(f)
					for _, text := range []string{tlsText, webpkiText} {
						with := Decide(withTXT(f, Secure, text))
						// Where fingerprints cannot say what is asked, mail waits: with
						// names that certificates are for there may be something to say.
						least := Strictness(before.Verdict)
						if _, waits := before.Verdict.(Defer); waits && f.Rules.DANE == ByFingerprint {
							least = Strictness(STS{})
						}
						if Strictness(with.Verdict) < least {
							t.Errorf("%v %s %s: %s, with %q %s", mx, a, b, before.Verdict.Name(), text, with.Verdict.Name())
						}
						if held := before.Verdict.Name() == "dane"; held && with.Verdict.Name() != "dane" && a+b != "nonenone" {
							noHostLosesDANE(t, f, with)
						}
					}
				}
			}
		}
	}
}

// noHostLosesDANE holds, behind signed MX records, that a host which "dane" would hold to
// its TLSA records is not offered on other terms.
func noHostLosesDANE(t *testing.T, f Facts, with Ruling) {
	t.Helper()
	if f.MX.Proof != Secure {
		return // DANE is the sender's choice there
	}
	tl := count(f.Hosts)
	switch v := with.Verdict.(type) {
	case Encrypt:
		if tl.of(usable) > 0 || tl.hidden() >= 0 {
			t.Errorf("encrypt for %v", tl.counts)
		}
	case WebPKI:
		for _, name := range append(tl.names(f.Hosts, usable, uncertain), tl.names(f.Hosts, unreachable)...) {
			if slices.Contains(v.Hosts, name) {
				t.Errorf("%v may have %s", v.Hosts, name)
			}
		}
	}
}

// TestRecordLifetime: what decides bounds how long the verdict holds; what is observed
// does not.
func TestRecordLifetime(t *testing.T) {
	short := func(f Facts) Facts { return edit(f, func(f *Facts) { f.TXT.TTL = time.Minute }) }
	for name, tc := range map[string]struct {
		facts Facts
		want  time.Duration
	}{
		"decides":  {short(withTXT(facts(Secure, "none"), Secure, tlsText)), time.Minute},
		"absent":   {short(strictly(facts(Secure, "none"))), time.Minute},
		"observed": {edit(short(withTXT(facts(Secure, "none"), Secure, tlsText)), func(f *Facts) { f.Rules.TXT = Observe }), time.Hour},
		"DANE":     {short(withTXT(facts(Secure, "usable"), Secure, tlsText)), time.Hour},
		"unsigned": {short(withTXT(facts(Insecure, "unsigned"), Insecure, tlsText)), time.Hour},
	} {
		if r := Decide(tc.facts); r.TTL != tc.want {
			t.Errorf("%s: TTL %v, want %v", name, r.TTL, tc.want)
		}
	}
}

// TestRecordReasons: each way in which a record is not believed is said, and by which.
func TestRecordReasons(t *testing.T) {
	for code, f := range map[Code]Facts{
		TXTAbsent:   strictly(facts(Secure, "none")),
		TXTUnsigned: withTXT(facts(Secure, "none"), Insecure, tlsText),
		TXTInvalid:  withTXT(facts(Secure, "none"), Secure, tlsText, tlsText),
		TXTObserved: edit(withTXT(facts(Secure, "none"), Secure, webpkiText), func(f *Facts) { f.Rules.TXT = Observe }),
		TXTFailed:   edit(strictly(facts(Insecure, "unsigned")), func(f *Facts) { f.TXT = servfail[string]() }),
		RRAbsent:    strictly(facts(Secure, "none")),
		RRUnsigned:  withRR(facts(Secure, "none"), Insecure, tlsText),
		RRInvalid:   withRR(facts(Secure, "none"), Secure, "v=SMTPSTRICT1;"),
	} {
		r := Decide(f)
		want := "_smtp-strict.example.com"
		if code[:2] == "rr" {
			want = "example.com TYPE65400"
		}
		if !slices.ContainsFunc(r.Reasons, func(reason Reason) bool { return reason.Code == code && reason.Subject == want }) {
			t.Errorf("no reason %s of %s:\n%s", code, want, explain(r))
		}
	}
}
