package verdict

import (
	"fmt"
	"slices"
	"testing"
)

// smtps renames the hosts of f and switches implicit TLS on.
func smtps(f Facts) Facts {
	f.Rules.ImplicitPort = 26
	f.MX.Records = slices.Clone(f.MX.Records)
	for i := range f.MX.Records {
		name := "smtps-" + f.MX.Records[i].Host
		f.MX.Records[i].Host, f.Hosts[i].Name = name, name
		for j := range f.Hosts[i].TLSA {
			f.Hosts[i].TLSA[j].Base = name
		}
	}
	return f
}

func onPort(f Facts, port uint16) Facts {
	f.Destination.Port = port
	return f
}

// TestImplicitHosts: implicit TLS is allowed where each condition holds, and nowhere else.
func TestImplicitHosts(t *testing.T) {
	both := []string{"smtps-mx0.example.com", "smtps-mx1.example.com"}
	for _, tc := range []struct {
		name  string
		facts Facts
		want  []string
	}{
		{"all hosts, WebPKI", smtps(facts(Secure, "none", "none")), both},
		{"all hosts, DANE", smtps(facts(Secure, "usable", "usable")), both},
		{"all hosts, some DANE", smtps(facts(Secure, "usable", "none")), both},
		{"all hosts, MTA-STS", sts(smtps(facts(Secure, "none", "none"))), both},
		{"all hosts, unusable TLSA", smtps(facts(Secure, "unusable", "unusable")), both},
		{"hosts in unsigned zones", smtps(facts(Secure, "unsigned", "unsigned")), both},
		{"the port itself", onPort(smtps(facts(Secure, "none", "none")), 26), both},
		{"one name twice", edit(smtps(facts(Secure, "none", "none")), func(f *Facts) { f.MX.Records = append(f.MX.Records, f.MX.Records[0]) }), both},
		{"by fingerprint", edit(smtps(facts(Secure, "usable", "usable")), func(f *Facts) { f.Rules.DANE = ByFingerprint }), both},

		{"switched off", edit(smtps(facts(Secure, "none")), func(f *Facts) { f.Rules.ImplicitPort = 0 }), nil},
		{"another port", onPort(smtps(facts(Secure, "none")), 587), nil},
		{"MX records not signed", smtps(facts(Insecure, "none")), nil},
		{"MX records unproven, MTA-STS", sts(smtps(facts(Indeterminate, "none"))), nil},
		{"only starttls-", edit(prefixed(facts(Secure, "none", "none"), 2), func(f *Facts) { f.Rules.ImplicitPort = 26 }), nil},
		{"one host starttls-", edit(smtps(facts(Secure, "none", "none")), func(f *Facts) { f.MX.Records[1].Host = "starttls-mx1.example.com" }), nil},
		{"one host without", edit(smtps(facts(Secure, "none", "none")), func(f *Facts) { f.MX.Records[1].Host = "mx1.example.com" }), nil},
		{"one host is no name", edit(smtps(facts(Secure, "none", "none")), func(f *Facts) { f.MX.Records[1].Host = "smtps-m x.example.com" }), nil},
		{"prefix observed", edit(smtps(facts(Secure, "usable")), func(f *Facts) { f.Rules.Prefix = Observe }), nil},
		{"prefix off", edit(smtps(facts(Secure, "usable")), func(f *Facts) { f.Rules.Prefix = Off }), nil},
		{"DNSSEC off", edit(sts(smtps(facts(Secure, "none"))), func(f *Facts) { f.Rules.WithoutDNSSEC = true }), nil},
		{"its lookups fail", smtps(facts(Secure, "tlsa-fails")), nil},
		{"the operator's word", edit(smtps(facts(Secure, "none")), func(f *Facts) { f.Override = &Override{Level: "encrypt"} }), nil},
		{"the operator's own domain", edit(smtps(facts(Secure, "none")), func(f *Facts) { f.Own = "mydestination" }), nil},
		{"no MX records", edit(smtps(facts(Secure, "none")), func(f *Facts) { f.MX = absent[MX](Secure) }), nil},
		{"a null MX beside them", edit(smtps(facts(Secure, "none", "none")), func(f *Facts) { f.MX.Records[1].Host = "" }), both[:1]},
		{"a host", edit(smtps(facts(Secure, "none")), func(f *Facts) { f.Destination.Host, f.MX = true, Answer[MX]{} }), nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Decide(tc.facts).Beside
			switch {
			case got == nil && tc.want == nil:
			case got == nil || !slices.Equal(got.Implicit, tc.want):
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// TestImplicitHostsAreBounded: more hosts than are judged are not looked at.
func TestImplicitHostsAreBounded(t *testing.T) {
	for n, want := range map[int]bool{maxImplicit: true, maxImplicit + 1: false} {
		f := facts(Secure)
		for i := range n {
			name := fmt.Sprintf("smtps-%d.example.com", i)
			f.MX.Outcome, f.MX.Records = Found, append(f.MX.Records, MX{Host: name})
			f.Hosts = append(f.Hosts, host(name, "none"))
		}
		f.Rules.ImplicitPort = 26
		if got := Decide(f).Beside != nil; got != want {
			t.Errorf("%d hosts: %v", n, got)
		}
	}
}

// TestImplicitPort: on the port of implicit TLS no verdict is laxer than TLS, and what
// is stricter stays what it is.
func TestImplicitPort(t *testing.T) {
	on := func(f Facts) Facts { return edit(onPort(f, 26), func(f *Facts) { f.Rules.ImplicitPort = 26 }) }
	override := func(level string) Facts {
		return edit(on(facts(Secure, "none")), func(f *Facts) { f.Override = &Override{Level: level} })
	}
	for _, tc := range []struct {
		name    string
		facts   Facts
		verdict string
		source  Source
		raised  bool
	}{
		{"nothing published", on(facts(Insecure, "unsigned")), "encrypt", FromImplicitTLS, true},
		{"no such domain", on(edit(facts(Secure), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Secure} })), "encrypt", FromImplicitTLS, true},
		{"some DANE", on(facts(Secure, "usable", "none")), "dane-only", FromDANE, true},
		{"insecure MX, DANE", on(facts(Insecure, "usable")), "dane-only", FromDANE, true},
		{"DANE", on(facts(Secure, "usable")), "dane-only", FromDANE, false},
		{"MTA-STS", on(sts(facts(Insecure, "unsigned"))), "secure", FromSTS, false},
		{"prefix", on(smtps(facts(Secure, "none"))), "secure", FromPrefix, false},
		{"unusable", on(facts(Secure, "unusable")), "encrypt", FromDANE, false},
		{"deferral", on(facts(Secure, "tlsa-fails")), "defer", FromDANE, false},
		{"a host", on(edit(facts(Secure), func(f *Facts) {
			f.MX, f.Destination.Host, f.Hosts = Answer[MX]{}, true, []Host{host(domain, "none")}
		})), "encrypt", FromImplicitTLS, true},

		{"override may", override("may"), "encrypt", FromOverride, true},
		{"override none", override("none"), "encrypt", FromOverride, true},
		{"override ignore", override(""), "encrypt", FromOverride, true},
		{"override secure", override("secure"), "secure", FromOverride, false},
		{"override dane", override("dane"), "dane", FromOverride, false},

		{"port 25", onPort(on(facts(Insecure, "unsigned")), 25), "none", FromNothing, false},
		{"switched off", onPort(facts(Insecure, "unsigned"), 26), "none", FromNothing, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			last := r.Reasons[len(r.Reasons)-1].Code
			if r.Verdict.Name() != tc.verdict || r.Source != tc.source || (last == ImplicitPort) != tc.raised {
				t.Errorf("%s from %v because of %s", r.Verdict.Name(), r.Source, last)
			}
		})
	}
}

// TestOrdinaryDomainsHaveNothingBeside: a million of them must not pay for the others.
func TestOrdinaryDomainsHaveNothingBeside(t *testing.T) {
	for _, f := range []Facts{facts(Insecure, "unsigned"), facts(Secure, "usable"), sts(facts(Insecure, "unsigned")), prefixed(facts(Secure, "none"), 1)} {
		f.Rules.ImplicitPort = 26
		if b := Decide(f).Beside; b != nil {
			t.Errorf("%v", b)
		}
	}
}
