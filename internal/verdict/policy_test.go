package verdict

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/mtasts"
)

// TestAllowed: a policy is expanded to the MX names that match, most preferred first.
func TestAllowed(t *testing.T) {
	two := func() Facts { return facts(Insecure, "unsigned", "unsigned") }
	for name, c := range map[string]struct {
		facts    Facts
		patterns []string
		want     []string
	}{
		"in full":            {two(), []string{"mx1.example.com", "mx0.example.com"}, []string{"mx0.example.com", "mx1.example.com"}},
		"wildcard":           {two(), []string{"*.example.com"}, []string{"mx0.example.com", "mx1.example.com"}},
		"one label only":     {two(), []string{"*.com", "mx0.example.com"}, []string{"mx0.example.com"}},
		"some":               {two(), []string{"mx1.example.com", "old.example.com"}, []string{"mx1.example.com"}},
		"none":               {two(), []string{"mx.elsewhere.example"}, nil},
		"no host name":       {edit(two(), func(f *Facts) { f.MX.Records[0].Host = "mx 0.example.com" }), []string{"*.example.com"}, []string{"mx1.example.com"}},
		"each once":          {edit(two(), func(f *Facts) { f.MX.Records[1].Host = "mx0.example.com" }), []string{"*.example.com"}, []string{"mx0.example.com"}},
		"the domain itself":  {edit(two(), func(f *Facts) { f.MX = absent[MX](Insecure) }), []string{"example.com"}, []string{"example.com"}},
		"a host":             {edit(two(), func(f *Facts) { f.Destination.Host, f.Hosts = true, f.Hosts[:1] }), []string{"example.com"}, []string{"example.com"}},
		"a denial":           {edit(two(), func(f *Facts) { f.MX.Outcome, f.MX.Records = NXDomain, nil }), []string{"*.example.com", "mx0.example.com"}, []string{"mx0.example.com"}},
		"a null MX":          {edit(two(), func(f *Facts) { f.MX.Records = []MX{{}} }), []string{"mx0.example.com"}, []string{"mx0.example.com"}},
		"a denial, wildcard": {edit(two(), func(f *Facts) { f.MX.Outcome, f.MX.Records = NXDomain, nil }), []string{"*.example.com"}, nil},
	} {
		r := Decide(withSTS(c.facts, mtasts.ModeEnforce, c.patterns...))
		v, ok := r.Verdict.(STS)
		if !ok || !slices.Equal(v.Hosts, c.want) || r.Beside != nil {
			t.Errorf("%s: %+v, want %v", name, r.Verdict, c.want)
		}
	}
}

// TestAllowedIsBounded: a domain has as many MX records as it likes.
func TestAllowedIsBounded(t *testing.T) {
	f := facts(Insecure, "unsigned")
	for i := range 3 * MaxNames {
		f.MX.Records = append(f.MX.Records, MX{Preference: uint16(i), Host: fmt.Sprintf("in%d.example.com", i)})
	}
	var full []string
	for i := range 3 * MaxNames {
		full = append(full, fmt.Sprintf("in%d.example.com", i))
	}
	gone := edit(f, func(f *Facts) { f.MX.Outcome, f.MX.Records = NXDomain, nil })
	for name, r := range map[string]Ruling{
		"wildcard": Decide(sts(f)), "names": Decide(withSTS(f, mtasts.ModeEnforce, full...)), "a denial": Decide(withSTS(gone, mtasts.ModeEnforce, full...)),
	} {
		if v, ok := r.Verdict.(STS); !ok || len(v.Hosts) != MaxNames || !strings.HasSuffix(v.Hosts[1], ".example.com") {
			t.Errorf("%s: %.300v", name, r.Verdict)
		}
	}
	dead := sts(facts(Secure, "none", "tlsa-fails"))
	dead.MX.Records, dead.Hosts = nil, nil
	for i := range 2 * MaxNames {
		dead.Hosts = append(dead.Hosts, host(fmt.Sprintf("in%d.example.com", i), "none"))
		dead.MX.Records = append(dead.MX.Records, MX{Host: dead.Hosts[i].Name})
	}
	dead.Hosts[0] = host(dead.Hosts[0].Name, "tlsa-fails")
	if v, ok := Decide(dead).Verdict.(STS); !ok || len(v.Patterns) != 2*MaxNames-1 || len(v.Hosts) != MaxNames {
		t.Errorf("narrowed: %.300v", v)
	}
}

// TestPolicyBesideDANE: what is known of an enforced policy is told where DANE decides,
// and nowhere else.
func TestPolicyBesideDANE(t *testing.T) {
	unsettled := func(f Facts) Facts { f.STS = STSFacts{Policy: f.STS.Policy}; return f }
	dane := func() Facts { return facts(Secure, "usable", "usable") }
	known := []string{"*.example.com"}
	for name, c := range map[string]struct {
		facts Facts
		want  []string
	}{
		"all hosts, not waited for": {unsettled(sts(dane())), known},
		"all hosts":                 {sts(dane()), known},
		"some hosts, raised":        {sts(facts(Secure, "usable", "none")), known},
		"fingerprints":              {edit(unsettled(sts(dane())), func(f *Facts) { f.Rules.DANE = ByFingerprint }), known},
		"not known":                 {unsettled(dane()), nil},
		"testing":                   {unsettled(withSTS(dane(), mtasts.ModeTesting, "*.example.com")), nil},
		"observed":                  {edit(unsettled(sts(dane())), func(f *Facts) { f.Rules.STS = Observe }), nil},
		"off":                       {edit(unsettled(sts(dane())), func(f *Facts) { f.Rules.STS = Off }), nil},
		"expired":                   {edit(unsettled(sts(dane())), func(f *Facts) { f.Now = f.Now.Add(8 * 24 * time.Hour) }), nil},
		"with names of no host":     {unsettled(withSTS(dane(), mtasts.ModeEnforce, "hostname")), nil},
		"no DANE":                   {sts(facts(Secure, "none")), nil},
		"deferred":                  {edit(sts(dane()), func(f *Facts) { f.MX = servfail[MX]() }), nil},
		"overridden":                {edit(sts(dane()), func(f *Facts) { f.Override = &Override{Level: "dane-only"} }), nil},
	} {
		var got []string
		r := Decide(c.facts)
		if p := r.Beside.Policy(); p != nil {
			got = p.Patterns
			if want := []string{"mx0.example.com", "mx1.example.com"}; p.Domain != domain || p.Lines != nil || !slices.Equal(p.Hosts, want) {
				t.Errorf("%s: %+v", name, p)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %s beside %v, want %v", name, r.Verdict.Name(), got, c.want)
		}
	}
}

// TestPolicyBesideDANEEnds: the ruling ends no later than the policy that it tells of,
// and no earlier than its own records where it tells of none.
func TestPolicyBesideDANEEnds(t *testing.T) {
	short := func(mode mtasts.Mode) Facts {
		f := withSTS(facts(Secure, "usable"), mode, "*.example.com")
		f.STS.Policy.Policy.MaxAge = 70 * time.Minute // of which an hour has passed
		f.STS = STSFacts{Policy: f.STS.Policy}
		return f
	}
	for mode, want := range map[mtasts.Mode]time.Duration{mtasts.ModeEnforce: 10 * time.Minute, mtasts.ModeTesting: time.Hour} {
		if got := Decide(short(mode)).TTL; got != want {
			t.Errorf("%v: %v, want %v", mode, got, want)
		}
	}
}

// TestBesideWith: what is shared is not changed.
func TestBesideWith(t *testing.T) {
	policy := &STS{Domain: domain}
	var none *Beside
	if b := none.With(policy); b.STS != policy || none.Policy() != nil {
		t.Errorf("%+v", b)
	}
	hosts := &Beside{Implicit: []string{"smtps-mx.example.com"}}
	if b := hosts.With(policy); b.STS != policy || len(b.Implicit) != 1 || hosts.STS != nil {
		t.Errorf("%+v, from %+v", b, hosts)
	}
}
