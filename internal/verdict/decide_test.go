package verdict

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/tlsa"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

const domain = "example.com"

// The builders below make the facts of a domain read like its zone.

func found[T any](p Proof, records ...T) Answer[T] {
	return Answer[T]{Outcome: Found, Proof: p, Records: records, TTL: time.Hour}
}

func absent[T any](p Proof) Answer[T] {
	return Answer[T]{Outcome: NoData, Proof: p, TTL: time.Hour}
}

func servfail[T any]() Answer[T] { return Fail[T](Remote, "SERVFAIL from 127.0.0.1:53") }

var (
	addr    = netip.MustParseAddr("192.0.2.1")
	goodTL  = tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
	pkixTL  = tlsa.Record{Usage: tlsa.PKIXEE, Selector: tlsa.SPKI, Matching: tlsa.SHA2256, Data: make([]byte, 32)}
	enforce = Rules{STS: Enforce, Prefix: Enforce, DANE: Native}
)

// host makes a host of the class that its word names.
func host(name, class string) Host {
	h := Host{Name: name, A: found(Secure, addr), AAAA: absent[netip.Addr](Secure)}
	look := func(a Answer[tlsa.Record]) { h.TLSA = []TLSALookup{{Base: name, Answer: a}} }
	switch class {
	case "usable":
		look(found(Secure, goodTL))
	case "unusable":
		look(found(Secure, pkixTL))
	case "none":
		look(absent[tlsa.Record](Secure))
	case "unsigned":
		h.A, h.AAAA = found(Insecure, addr), absent[netip.Addr](Insecure)
	case "tlsa-fails":
		look(servfail[tlsa.Record]())
	case "a-fails":
		h.A, h.AAAA = servfail[netip.Addr](), servfail[netip.Addr]()
	case "unsigned-dead":
		h.A, h.AAAA = servfail[netip.Addr](), servfail[netip.Addr]()
		h.A.Proof, h.AAAA.Proof = Insecure, Insecure
	case "aaaa-fails":
		h.AAAA = servfail[netip.Addr]()
		look(found(Secure, goodTL))
	case "gone":
		h.A, h.AAAA = absent[netip.Addr](Secure), absent[netip.Addr](Secure)
	case "unproven":
		h.A, h.AAAA = found(Indeterminate, addr), absent[netip.Addr](Indeterminate)
	case "unproven-gone":
		h.A, h.AAAA = absent[netip.Addr](Indeterminate), absent[netip.Addr](Secure)
	case "unsigned-gone":
		h.A, h.AAAA = absent[netip.Addr](Insecure), absent[netip.Addr](Secure)
	case "unsigned-tlsa":
		look(found(Insecure, goodTL))
	default:
		panic("no host class " + class)
	}
	return h
}

// facts makes the facts of a domain whose MX records have the proof and whose
// hosts have the classes given, mx0 first.
func facts(mx Proof, classes ...string) Facts {
	f := Facts{Now: now, Destination: nexthop.Destination{Name: domain, Port: 25}, Rules: enforce}
	records := make([]MX, len(classes))
	for i, c := range classes {
		name := "mx" + string(rune('0'+i)) + "." + domain
		records[i] = MX{Preference: uint16(i), Host: name}
		f.Hosts = append(f.Hosts, host(name, c))
	}
	f.MX = found(mx, records...)
	f.STS = STSFacts{Record: absent[string](Insecure), Settled: true}
	return f
}

func withSTS(f Facts, mode mtasts.Mode, patterns ...string) Facts {
	f.STS.Record = found(Insecure, "v=STSv1; id=1;")
	f.STS.Policy = policy(mode, patterns...)
	return f
}

// bogusTXT has the _mta-sts record fail, because its signatures do not hold.
func bogusTXT(f Facts) Facts {
	f.STS.Record = Answer[string]{Outcome: Failed, Proof: Bogus, Failure: &Failure{Remote, "bogus: bad signature"}}
	f.STS.Failure = &STSFailure{Failure: *f.STS.Record.Failure}
	return f
}

func policy(mode mtasts.Mode, patterns ...string) *mtasts.Cached {
	var list []mtasts.Pattern
	for _, p := range patterns {
		pattern, err := mtasts.ParsePattern(p)
		if err != nil {
			panic(err)
		}
		list = append(list, pattern)
	}
	p := mtasts.Policy{Mode: mode, MX: list, MaxAge: 7 * 24 * time.Hour}
	c := mtasts.Cached{Domain: domain}.AfterSuccess(now.Add(-time.Hour), "1", p, 0)
	return &c
}

// prefixed renames the hosts of f, so that the first n carry a prefix.
func prefixed(f Facts, n int) Facts {
	f.MX.Records = slices.Clone(f.MX.Records)
	for i := range f.MX.Records {
		if i < n {
			f.MX.Records[i].Host = "starttls-" + f.MX.Records[i].Host
			f.Hosts[i].Name = f.MX.Records[i].Host
			for j := range f.Hosts[i].TLSA {
				f.Hosts[i].TLSA[j].Base = f.MX.Records[i].Host
			}
		}
	}
	return f
}

func edit(f Facts, change func(*Facts)) Facts {
	change(&f)
	return f
}

var sts = func(f Facts) Facts { return withSTS(f, mtasts.ModeEnforce, "*.example.com") }

// TestLadder walks every rung and every mixed case of the precedence.
func TestLadder(t *testing.T) {
	for _, tc := range []struct {
		name     string
		facts    Facts
		verdict  string
		source   Source
		decisive Code
	}{
		// Rung 1
		{"override", edit(facts(Secure, "usable"), func(f *Facts) { f.Override = &Override{Level: "encrypt"} }), "encrypt", FromOverride, Overridden},
		{"override ignore", edit(facts(Secure, "usable"), func(f *Facts) { f.Override = &Override{} }), "none", FromOverride, OverrideIgnore},
		{"override ended", edit(facts(Secure, "usable"), func(f *Facts) { f.Override = &Override{Until: now} }), "dane-only", FromDANE, DANEAll},
		{"override needs no facts", Facts{Now: now, Override: &Override{Level: "may"}}, "may", FromOverride, Overridden},

		// Rung 2
		{"mx fails", edit(facts(Secure), func(f *Facts) { f.MX = servfail[MX]() }), "defer", FromNothing, MXFailed},
		{"mx fails beside STS", edit(sts(facts(Secure)), func(f *Facts) { f.MX = servfail[MX]() }), "defer", FromNothing, MXFailed},
		{"nxdomain", edit(facts(Secure), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Secure} }), "none", FromNothing, Nothing},
		{"nxdomain unsigned", edit(facts(Secure), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Insecure} }), "none", FromNothing, Nothing},
		{"nxdomain unsigned, STS known", edit(sts(facts(Secure)), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Insecure} }), "secure", FromSTS, STSEnforce},
		{"null mx", edit(facts(Secure), func(f *Facts) { f.MX = found(Secure, MX{}) }), "none", FromNothing, Nothing},
		{"null mx unsigned, STS known", edit(sts(facts(Secure)), func(f *Facts) { f.MX = found(Insecure, MX{}) }), "secure", FromSTS, STSEnforce},
		{"mx unproven", facts(Indeterminate, "usable"), "defer", FromNothing, NoProof},
		{"mx unproven, STS", sts(facts(Indeterminate, "usable")), "secure", FromSTS, STSEnforce},

		// Rung 3
		{"dane", facts(Secure, "usable", "usable"), "dane-only", FromDANE, DANEAll},
		{"dane, STS unsettled", edit(facts(Secure, "usable"), func(f *Facts) { f.STS = STSFacts{} }), "dane-only", FromDANE, DANEAll},
		{"dane beside STS", sts(facts(Secure, "usable")), "dane-only", FromDANE, DANEAll},
		{"dane beside prefix", prefixed(facts(Secure, "usable", "usable"), 2), "dane-only", FromDANE, DANEAll},
		{"dane, one TLSA fails", facts(Secure, "usable", "tlsa-fails"), "dane-only", FromDANE, DANEAll},
		{"dane, one A fails", facts(Secure, "usable", "a-fails"), "dane-only", FromDANE, DANEAll},
		{"dane, AAAA fails", facts(Secure, "aaaa-fails"), "dane-only", FromDANE, DANEAll},
		{"dane, one gone", facts(Secure, "usable", "gone"), "dane-only", FromDANE, DANEAll},
		{"all TLSA fail", facts(Secure, "tlsa-fails", "tlsa-fails"), "defer", FromDANE, NoHostLeft},
		{"all TLSA fail beside STS", sts(facts(Secure, "tlsa-fails")), "defer", FromDANE, NoHostLeft},
		{"all A fail", facts(Secure, "a-fails", "a-fails"), "defer", FromDANE, NoHostLeft},
		{"denial unproven", facts(Secure, "unproven-gone"), "defer", FromDANE, NoHostLeft},
		{"denial unsigned", facts(Secure, "unsigned-gone"), "none", FromNothing, Nothing},
		{"host unproven", edit(facts(Secure), func(f *Facts) {
			f.MX, f.Destination.Host, f.Hosts = Answer[MX]{}, true, []Host{host(domain, "unproven")}
		}), "defer", FromNothing, NoProof},
		{"host unproven, STS", edit(sts(facts(Secure)), func(f *Facts) {
			f.MX, f.Destination.Host, f.Hosts = Answer[MX]{}, true, []Host{host(domain, "unproven")}
		}), "secure", FromSTS, STSEnforce},
		{"hosts unproven", facts(Secure, "unproven"), "defer", FromDANE, NoHostLeft},
		{"implicit mx", edit(facts(Secure), func(f *Facts) { f.MX = absent[MX](Secure); f.Hosts = []Host{host(domain, "usable")} }), "dane-only", FromDANE, DANEAll},
		{"host", edit(facts(Secure), func(f *Facts) {
			f.MX, f.Destination.Host, f.Hosts = Answer[MX]{}, true, []Host{host(domain, "usable")}
		}), "dane-only", FromDANE, DANEAll},

		// Rung 4
		{"mixed", facts(Secure, "usable", "none"), "dane", FromDANE, DANESome},
		{"mixed, unsigned host", facts(Secure, "usable", "unsigned"), "dane", FromDANE, DANESome},
		{"mixed, unusable", facts(Secure, "usable", "unusable"), "dane", FromDANE, DANESome},
		{"mixed beside STS", sts(facts(Secure, "usable", "none")), "dane-only", FromDANE, DANERaised},
		{"mixed unusable beside STS", sts(facts(Secure, "usable", "unusable")), "dane-only", FromDANE, DANERaised},
		{"mixed beside prefix", prefixed(facts(Secure, "usable", "none"), 2), "dane-only", FromDANE, DANERaised},
		{"mixed beside testing", withSTS(facts(Secure, "usable", "none"), mtasts.ModeTesting, "*.example.com"), "dane", FromDANE, DANESome},
		{"none and TLSA fails", facts(Secure, "none", "tlsa-fails"), "dane", FromDANE, DANESome},
		{"none and A fails", facts(Secure, "none", "a-fails"), "dane", FromDANE, DANESome},
		{"none and TLSA fails beside STS", sts(facts(Secure, "none", "tlsa-fails")), "secure", FromSTS, DANENarrowed},
		{"none and A fails beside STS", sts(facts(Secure, "none", "a-fails")), "secure", FromSTS, DANENarrowed},
		{"unusable and A fails beside STS", sts(facts(Secure, "unusable", "a-fails")), "secure", FromSTS, DANENarrowed},
		{"none and TLSA fails beside prefix", prefixed(facts(Secure, "none", "tlsa-fails"), 2), "secure", FromPrefix, DANENarrowed},
		{"none and TLSA fails beside STS for another host", withSTS(facts(Secure, "none", "tlsa-fails"), mtasts.ModeEnforce, "mx1.example.com"), "defer", FromDANE, DANENoHost},
		{"none and unproven denial", facts(Secure, "none", "unproven-gone"), "dane", FromDANE, DANESome},
		{"usable and unproven denial", facts(Secure, "usable", "unproven-gone"), "dane-only", FromDANE, DANEAll},
		{"unusable and TLSA fails", facts(Secure, "unusable", "tlsa-fails"), "dane", FromDANE, DANESome},

		// Rung 5
		{"unusable", facts(Secure, "unusable", "unusable"), "encrypt", FromDANE, DANEEncrypt},
		{"unusable and gone", facts(Secure, "unusable", "gone"), "encrypt", FromDANE, DANEEncrypt},
		{"unusable beside STS", sts(facts(Secure, "unusable")), "secure", FromSTS, STSEnforce},
		{"unusable beside prefix", prefixed(facts(Secure, "unusable"), 1), "secure", FromPrefix, PrefixAll},
		{"unusable and none", facts(Secure, "unusable", "none"), "dane", FromDANE, DANESome},
		{"unusable and none beside STS", sts(facts(Secure, "unusable", "none")), "secure", FromSTS, STSEnforce},

		// Rung 6
		{"insecure mx", facts(Insecure, "usable"), "dane", FromDANE, DANEInsecureMX},
		{"insecure mx, unusable", facts(Insecure, "unusable"), "dane", FromDANE, DANEInsecureMX},
		{"insecure mx, TLSA fails", facts(Insecure, "tlsa-fails", "none"), "dane", FromDANE, DANEInsecureMX},
		{"insecure mx beside STS", sts(facts(Insecure, "usable")), "secure", FromSTS, STSEnforce},
		{"insecure mx, one A fails", facts(Insecure, "unsigned", "a-fails"), "none", FromNothing, Nothing},
		{"insecure mx, all A fail", facts(Insecure, "a-fails", "a-fails"), "defer", FromNothing, NoHostLeft},
		{"insecure mx, all A fail beside STS", sts(facts(Insecure, "a-fails")), "secure", FromSTS, STSEnforce},

		// Rung 7
		{"sts", sts(facts(Insecure, "unsigned")), "secure", FromSTS, STSEnforce},
		{"sts, signed zone", sts(facts(Secure, "none")), "secure", FromSTS, STSEnforce},
		{"sts testing", withSTS(facts(Insecure, "unsigned"), mtasts.ModeTesting, "*.example.com"), "none", FromNothing, Nothing},
		{"sts none", withSTS(facts(Insecure, "unsigned"), mtasts.ModeNone), "none", FromNothing, Nothing},
		{"sts expired", edit(sts(facts(Insecure, "unsigned")), func(f *Facts) { f.Now = now.Add(8 * 24 * time.Hour) }), "none", FromNothing, Nothing},
		{"sts held", edit(sts(facts(Insecure, "unsigned")), func(f *Facts) { f.STS.Record, f.STS.Failure = servfail[string](), &STSFailure{} }), "secure", FromSTS, STSEnforce},
		{"sts fails at first", edit(facts(Insecure, "unsigned"), func(f *Facts) { f.STS.Failure = &STSFailure{Result: "sts-policy-fetch-error"} }), "none", FromNothing, Nothing},
		{"sts not asked yet", edit(facts(Insecure, "unsigned"), func(f *Facts) { f.STS.Failure = &STSFailure{Unfinished: true} }), "defer", FromSTS, STSUnfinished},
		{"sts not asked yet, but known", edit(sts(facts(Insecure, "unsigned")), func(f *Facts) { f.STS.Failure = &STSFailure{Unfinished: true} }), "secure", FromSTS, STSEnforce},
		{"sts bogus", bogusTXT(facts(Secure, "none")), "defer", FromSTS, STSBogus},
		{"sts bogus behind an unsigned mx", bogusTXT(facts(Insecure, "unsigned")), "defer", FromSTS, STSBogus},
		{"sts bogus, but known", bogusTXT(sts(facts(Secure, "none"))), "secure", FromSTS, STSEnforce},
		{"sts bogus, testing known", bogusTXT(withSTS(facts(Secure, "none"), mtasts.ModeTesting, "*.example.com")), "none", FromNothing, Nothing},
		{"sts bogus, one expired", edit(bogusTXT(sts(facts(Secure, "none"))), func(f *Facts) { f.Now = f.STS.Policy.Expires() }), "defer", FromSTS, STSBogus},
		{"sts bogus, observed", edit(bogusTXT(facts(Secure, "none")), func(f *Facts) { f.Rules.STS = Observe }), "none", FromNothing, Nothing},
		{"sts bogus, off", edit(facts(Secure, "none"), func(f *Facts) { f.Rules.STS = Off }), "none", FromNothing, Nothing},
		{"sts bogus beside DANE", bogusTXT(facts(Secure, "usable")), "dane-only", FromDANE, DANEAll},
		{"sts bogus beside DANE for some", bogusTXT(facts(Secure, "usable", "none")), "dane-only", FromDANE, DANERaised},
		{"sts bogus beside unusable records", bogusTXT(facts(Secure, "unusable")), "defer", FromSTS, STSBogus},
		{"sts fails, not bogus", edit(bogusTXT(facts(Secure, "none")), func(f *Facts) { f.STS.Record.Proof = Indeterminate }), "none", FromNothing, Nothing},
		{"sts not asked yet, observed", edit(facts(Insecure, "unsigned"), func(f *Facts) { f.Rules.STS, f.STS.Failure = Observe, &STSFailure{Unfinished: true} }), "none", FromNothing, Nothing},
		{"sts with nothing to match", withSTS(facts(Insecure, "unsigned"), mtasts.ModeEnforce, "hostname"), "defer", FromSTS, STSUnwritable},
		{"sts off", edit(sts(facts(Insecure, "unsigned")), func(f *Facts) { f.Rules.STS = Off }), "none", FromNothing, Nothing},
		{"sts observed", edit(sts(facts(Insecure, "unsigned")), func(f *Facts) { f.Rules.STS = Observe }), "none", FromNothing, Nothing},
		{"sts beside prefix", prefixed(sts(facts(Secure, "none")), 1), "secure", FromSTS, STSEnforce},
		{"sts without DNSSEC", edit(sts(facts(Indeterminate)), func(f *Facts) { f.Rules.WithoutDNSSEC = true }), "secure", FromSTS, STSEnforce},

		// Rung 8
		{"prefix", prefixed(facts(Secure, "none", "none"), 2), "secure", FromPrefix, PrefixAll},
		{"prefix mixed", prefixed(facts(Secure, "none", "none"), 1), "none", FromNothing, Nothing},
		{"prefix unsigned", prefixed(facts(Insecure, "unsigned"), 1), "none", FromNothing, Nothing},
		{"prefix observed", edit(prefixed(facts(Secure, "none"), 1), func(f *Facts) { f.Rules.Prefix = Observe }), "none", FromNothing, Nothing},
		{"prefix off", edit(prefixed(facts(Secure, "none"), 1), func(f *Facts) { f.Rules.Prefix = Off }), "none", FromNothing, Nothing},

		// Rung 10
		{"nothing", facts(Insecure, "unsigned"), "none", FromNothing, Nothing},
		{"nothing, signed", facts(Secure, "none"), "none", FromNothing, Nothing},
		{"unsigned TLSA", facts(Secure, "unsigned-tlsa"), "none", FromNothing, Nothing},
		{"all gone", facts(Secure, "gone"), "none", FromNothing, Nothing},
		{"nothing without DNSSEC", edit(facts(Indeterminate), func(f *Facts) { f.Rules.WithoutDNSSEC = true }), "none", FromNothing, Nothing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			if r.Verdict.Name() != tc.verdict || r.Source != tc.source {
				t.Errorf("%s from %v, want %s from %v\n%s", r.Verdict.Name(), r.Source, tc.verdict, tc.source, explain(r))
			}
			if got := r.Reasons[len(r.Reasons)-1].Code; got != tc.decisive {
				t.Errorf("the last reason is %s, want %s\n%s", got, tc.decisive, explain(r))
			}
			seen := make(map[Reason]bool)
			for _, reason := range r.Reasons {
				if seen[reason] {
					t.Errorf("%s is said twice\n%s", reason.Code, explain(r))
				}
				seen[reason] = true
			}
			if r.TTL < 0 {
				t.Errorf("TTL %v", r.TTL)
			}
		})
	}
}

func explain(r Ruling) string {
	var b strings.Builder
	for _, reason := range r.Reasons {
		b.WriteString(reason.Subject + " " + string(reason.Code) + " (" + reason.Code.Cite() + ") " + reason.Text() + "\n")
	}
	return b.String()
}

// TestPure holds that a ruling depends on the facts alone, and leaves them as
// they were.
func TestPure(t *testing.T) {
	for _, make := range []func() Facts{
		func() Facts { return sts(facts(Secure, "usable", "none", "tlsa-fails")) },
		func() Facts { return prefixed(facts(Secure, "none", "unusable"), 2) },
		func() Facts { return facts(Insecure, "usable", "a-fails") },
	} {
		f := make()
		first := Decide(f)
		for range 50 {
			if again := Decide(f); !reflect.DeepEqual(first, again) {
				t.Fatalf("two rulings of the same facts:\n%s\n%s", explain(first), explain(again))
			}
		}
		if !reflect.DeepEqual(f, make()) {
			t.Fatal("Decide changed its facts")
		}
	}
}

// TestUnaskedPanics holds that nothing is decided on what was never asked for.
func TestUnaskedPanics(t *testing.T) {
	for name, f := range map[string]Facts{
		"mx":   edit(facts(Secure), func(f *Facts) { f.MX = Answer[MX]{} }),
		"a":    edit(facts(Secure, "usable"), func(f *Facts) { f.Hosts[0].A = Answer[netip.Addr]{} }),
		"tlsa": edit(facts(Secure, "usable"), func(f *Facts) { f.Hosts[0].TLSA = nil }),
		"link": edit(facts(Secure, "unsigned"), func(f *Facts) { f.Hosts[0].A.Canonical = "x.example" }),
		"sts":  edit(facts(Secure, "none"), func(f *Facts) { f.STS = STSFacts{} }),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("Decide reached a verdict")
				}
			}()
			Decide(f)
		})
	}
}

// TestAliases is RFC 7672 §2.2.2 and §2.2.3: where the TLSA base domain is.
func TestAliases(t *testing.T) {
	const target = "mx.hoster.example"
	alias := func(p Proof, link Answer[string], lookups ...TLSALookup) Facts {
		f := facts(Secure, "none")
		h := &f.Hosts[0]
		h.A.Proof, h.AAAA.Proof = p, p
		h.A.Canonical, h.AAAA.Canonical = target, target
		h.Link, h.TLSA = link, lookups
		return f
	}
	// denied: whoever can forge the unsigned target denies its addresses.
	denied := func(f Facts) Facts {
		f.Hosts[0].A.Outcome, f.Hosts[0].A.Records = NoData, nil
		return f
	}
	expanded := func(a Answer[tlsa.Record]) TLSALookup { return TLSALookup{target, a} }
	original := func(a Answer[tlsa.Record]) TLSALookup { return TLSALookup{"mx0." + domain, a} }
	good, none, fails := found(Secure, goodTL), absent[tlsa.Record](Secure), servfail[tlsa.Record]()
	for _, tc := range []struct {
		name  string
		facts Facts
		want  string
	}{
		{"at the expanded name", alias(Secure, Answer[string]{}, expanded(good), original(none)), "dane-only"},
		{"at the original name", alias(Secure, Answer[string]{}, expanded(none), original(good)), "dane-only"},
		{"expanded unsigned, original signed", alias(Secure, Answer[string]{}, expanded(found(Insecure, goodTL)), original(good)), "dane-only"},
		{"expanded fails", alias(Secure, Answer[string]{}, expanded(fails), original(good)), "defer"},
		{"original fails, expanded found", alias(Secure, Answer[string]{}, expanded(good), original(fails)), "dane-only"},
		{"nowhere", alias(Secure, Answer[string]{}, expanded(none), original(none)), "none"},
		{"unsigned target, signed link", alias(Insecure, found(Secure, target), original(good)), "dane-only"},
		{"unsigned target, signed link, none", alias(Insecure, found(Secure, target), original(none)), "none"},
		{"unsigned target, unsigned link", alias(Insecure, found(Insecure, target), original(good)), "none"},
		{"unsigned target, unsigned link, TLSA breaks", alias(Insecure, found(Insecure, target), original(fails)), "none"},
		{"unsigned denial, signed link", denied(alias(Insecure, found(Secure, target), original(good))), "dane-only"},
		{"unsigned denial, unsigned link", denied(alias(Insecure, found(Insecure, target), original(good))), "none"},
		{"unsigned target, link fails", alias(Insecure, servfail[string](), original(good)), "defer"},
		{"unsigned target, link unproven", alias(Insecure, found(Indeterminate, target), original(good)), "defer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if r := Decide(tc.facts); r.Verdict.Name() != tc.want {
				t.Errorf("%s, want %s\n%s", r.Verdict.Name(), tc.want, explain(r))
			}
		})
	}
}

// TestSTSMatters holds that nothing which STSMatters calls settled changes with
// the policy, and that Decide never needs an unsettled one then.
func TestSTSMatters(t *testing.T) {
	classes := []string{"unproven-gone", "unsigned-gone", "usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails", "gone", "unproven", "unsigned-tlsa"}
	for _, mx := range []Proof{Secure, Insecure, Indeterminate} {
		for _, a := range classes {
			for _, b := range classes {
				f := facts(mx, a, b)
				without := f
				without.STS = STSFacts{}
				if STSMatters(without) {
					continue
				}
				for _, how := range []Enforcement{Native, ByFingerprint} {
					f.Rules.DANE, without.Rules.DANE = how, how
					if r, s := Decide(without), Decide(sts(f)); !reflect.DeepEqual(r.Verdict, s.Verdict) {
						t.Errorf("%v %s %s, %v: %s without MTA-STS, %s with it", mx, a, b, how, r.Verdict.Name(), s.Verdict.Name())
					}
				}
			}
		}
	}
	for name, f := range map[string]Facts{
		"override": {Override: &Override{}, Rules: enforce},
		"off":      edit(facts(Insecure, "none"), func(f *Facts) { f.Rules.STS = Off }),
		"mx fails": edit(facts(Secure), func(f *Facts) { f.MX = servfail[MX]() }),
		"nxdomain": edit(facts(Secure), func(f *Facts) { f.MX = Answer[MX]{Outcome: NXDomain, Proof: Secure} }),
		"dane":     facts(Secure, "usable", "gone"),
	} {
		if STSMatters(f) {
			t.Errorf("%s: MTA-STS is said to matter", name)
		}
	}
	if f := facts(Secure, "usable", "none"); !STSMatters(f) {
		t.Error("mixed TLSA: MTA-STS is said not to matter")
	}
}

// TestNarrowed: only hosts that provably have no usable TLSA records are left.
func TestNarrowed(t *testing.T) {
	r := Decide(sts(facts(Secure, "none", "tlsa-fails", "unusable", "a-fails")))
	v, ok := r.Verdict.(STS)
	if want := []string{"mx0.example.com", "mx2.example.com"}; !ok || !slices.Equal(v.Patterns, want) || !r.Provisional {
		t.Errorf("%+v, want provisionally %v", r.Verdict, want)
	}
}

// TestStrictness: every verdict has a rank, and a deferral outranks what it may hide.
func TestStrictness(t *testing.T) {
	order := []Verdict{NoPolicy{}, DANE{}, Encrypt{}, STS{}, DANEOnly{}, Defer{}, Fixed{}}
	if Strictness(Fingerprint{}) != Strictness(DANEOnly{}) {
		t.Error("DANE ranks differently by how it is written")
	}
	for i := range order[1:] {
		if Strictness(order[i]) >= Strictness(order[i+1]) {
			t.Errorf("%T does not rank below %T", order[i], order[i+1])
		}
	}
	if Strictness(WebPKI{}) != Strictness(STS{}) {
		t.Error("WebPKI certificates rank differently by where they are demanded")
	}
}

// TestMonotone holds for every pair of host classes that a failed lookup never
// makes the verdict laxer than the answer it may hide.
func TestMonotone(t *testing.T) {
	strictness := func(r Ruling) int {
		return map[string]int{"none": 0, "dane": 1, "encrypt": 2, "secure": 3, "fingerprint": 4, "dane-only": 4, "defer": 5}[r.Verdict.Name()]
	}
	for _, raise := range []func(Facts) Facts{
		func(f Facts) Facts { return f }, sts, func(f Facts) Facts { return prefixed(f, 2) }, byFingerprint,
		func(f Facts) Facts { return byFingerprint(sts(f)) },
	} {
		for _, other := range []string{"usable", "unusable", "none", "unsigned", "gone", "tlsa-fails", "a-fails", "unsigned-dead"} {
			for _, hidden := range []string{"usable", "unusable"} {
				open, broken := raise(facts(Secure, other, hidden)), raise(facts(Secure, other, "tlsa-fails"))
				if o, b := Decide(open), Decide(broken); strictness(b) < min(strictness(o), 1) {
					t.Errorf("%s, %s: %s; with the TLSA lookup broken: %s", other, hidden, o.Verdict.Name(), b.Verdict.Name())
				}
			}
		}
	}
}

// TestEveryCodeSpeaks holds that each reason has a sentence and a citation or
// none on purpose: both switches panic on a code that they forgot.
func TestEveryCodeSpeaks(t *testing.T) {
	codes := []Code{
		Overridden, OverrideIgnore, MXFailed, MXUnproven, MXNoDomain, MXNull, MXImplicit, MXSecure, MXInsecure, MXNotAsked,
		DNSSECOff, HostFailed, HostNoAddress, HostInsecure, HostUnproven, AliasInsecure, AliasFailed, TLSAUsable, TLSAUnusable,
		TLSAAbsent, TLSAInsecure, TLSAFailed, DANEAll, DANESome, DANERaised, DANEEncrypt, DANEInsecureMX, DANENoHost, STSOff,
		Fingerprints, NoFingerprints, DANEHidden, TLSAUnwritable, EncryptAll, InsecureEncrypt, InsecureUnused,
		STSSkipped, STSAbsent, STSFailed, STSBogus, STSUnfinished, DANENarrowed, STSHeld, STSEnforce, STSTesting, STSNone, STSObserved, STSUnwritable, STSUnlisted,
		TXTAbsent, TXTFailed, TXTUnsigned, TXTInvalid, TXTObserved, TXTEncrypt, TXTWebPKI, DANERaisedTLS, DANEOrTLS,
		RRAbsent, RRFailed, RRUnsigned, RRInvalid, RRObserved, RREncrypt, RRWebPKI,
		PrefixAll, PrefixObserved, PrefixUnsigned, PrefixMixed, NoHostLeft, NoProof, Unfinished, Nothing,
	}
	seen := make(map[string]bool)
	for _, c := range codes {
		text := Reason{Code: c}.Text()
		if text == "" || seen[text] {
			t.Errorf("%s: sentence %q is empty or said twice", c, text)
		}
		seen[text] = true
		if cite := c.Cite(); cite != "" && !strings.HasPrefix(cite, "RFC ") {
			t.Errorf("%s: citation %q", c, cite)
		}
	}
}

func TestLifetime(t *testing.T) {
	f := facts(Secure, "usable")
	f.Hosts[0].TLSA[0].Answer.TTL = time.Minute
	if r := Decide(f); r.TTL != time.Minute || r.Provisional {
		t.Errorf("TTL %v, provisional %v: want the TLSA records' minute", r.TTL, r.Provisional)
	}
	f = sts(facts(Insecure, "unsigned"))
	f.Now = f.STS.Policy.Expires().Add(-time.Second)
	if r := Decide(f); r.TTL != time.Second {
		t.Errorf("TTL %v: want the second that is left of the policy", r.TTL)
	}
	if r := Decide(facts(Secure, "usable", "tlsa-fails")); !r.Provisional {
		t.Error("a ruling beside a failed lookup is not provisional")
	}
	if r := Decide(facts(Secure, "aaaa-fails")); r.Provisional {
		t.Error("a host with an address is provisional because its AAAA lookup failed")
	}
	if r := Decide(Facts{Now: now, Override: &Override{Until: now.Add(time.Hour)}}); r.TTL != time.Hour {
		t.Errorf("override: TTL %v, want what is left of it", r.TTL)
	}
}

func TestReport(t *testing.T) {
	r := Decide(withSTS(facts(Insecure, "unsigned"), mtasts.ModeTesting, "*.example.com"))
	if v, ok := r.Verdict.(NoPolicy); !ok || v.Report == nil || !slices.Equal(v.Report.Patterns, []string{"*.example.com"}) {
		t.Errorf("testing: %+v", r.Verdict)
	}
	f := facts(Insecure, "unsigned")
	f.STS.Failure = &STSFailure{Result: "sts-webpki-invalid"}
	if v, ok := Decide(f).Verdict.(NoPolicy); !ok || v.Report == nil || v.Report.Result != "sts-webpki-invalid" {
		t.Errorf("failed fetch: %+v", Decide(f).Verdict)
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, f := range map[string]Facts{
		"nothing": facts(Insecure, "unsigned", "unsigned"),
		"dane":    facts(Secure, "usable", "usable"),
		"sts":     sts(facts(Insecure, "unsigned")),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(f)
			}
		})
	}
}
