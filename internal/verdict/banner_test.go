package verdict

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tlsverdict/internal/nexthop"
)

// pinned switches the banner on. There is a word for each MX name, in order: "pin", "none",
// "ended" or "fails".
func pinned(f Facts, words ...string) Facts {
	f.Rules.Banner = Enforce
	f.Pins = nil
	for i, name := range f.Pinnable() {
		p := Pin{Host: name}
		switch words[i] {
		case "pin":
			p.Until = f.Now.Add(10 * time.Minute)
		case "ended":
			p.Until = f.Now
		case "fails":
			p.Failure = &Failure{Ours, "the store cannot be read"}
		}
		f.Pins = append(f.Pins, p)
	}
	return f
}

// TestBanner is what pins do to the verdict, by themselves and beside every other signal.
func TestBanner(t *testing.T) {
	two := func(p Proof) Facts { return facts(p, "none", "none") }
	unsigned := func() Facts { return facts(Insecure, "unsigned", "unsigned") }
	observe := func(f *Facts) { f.Rules.Banner = Observe }
	for _, tc := range []struct {
		name     string
		facts    Facts
		verdict  string
		source   Source
		decisive Code
	}{
		{"all", pinned(two(Secure), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"unsigned MX records", pinned(unsigned(), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"one of two", pinned(two(Secure), "pin", "none"), "none", FromNothing, Nothing},
		{"none", pinned(two(Secure), "none", "none"), "none", FromNothing, Nothing},
		{"one has ended", pinned(two(Secure), "ended", "pin"), "none", FromNothing, Nothing},
		{"off", edit(pinned(two(Secure), "pin", "pin"), func(f *Facts) { f.Rules.Banner = Off }), "none", FromNothing, Nothing},
		{"observed", edit(pinned(two(Secure), "pin", "pin"), observe), "none", FromNothing, Nothing},
		{"not known", pinned(two(Secure), "fails", "pin"), "defer", FromBanner, BannerFailed},
		{"none is known", pinned(two(Secure), "fails", "fails"), "defer", FromBanner, BannerFailed},
		{"not known, and cannot matter", pinned(two(Secure), "fails", "none"), "none", FromNothing, Nothing},
		{"not known, observed", edit(pinned(two(Secure), "fails", "pin"), observe), "none", FromNothing, Nothing},
		{"no MX records", pinned(edit(two(Secure), func(f *Facts) { f.MX, f.Hosts = absent[MX](Secure), []Host{host(domain, "none")} }), "pin"), "secure", FromBanner, BannerAll},
		{"a host", pinned(asHost(two(Secure), "unsigned"), "pin"), "secure", FromBanner, BannerAll},
		{"a host on another port", pinned(edit(asHost(two(Secure), "unsigned"), func(f *Facts) { f.Destination.Port = 587 }), "pin"), "none", FromNothing, Nothing},
		{"DNSSEC off", pinned(edit(two(Indeterminate), func(f *Facts) { f.Rules.WithoutDNSSEC = true; f.Hosts = nil }), "pin", "pin"), "none", FromNothing, Nothing},
		{"no validator", pinned(two(Indeterminate), "pin", "pin"), "defer", FromNothing, NoProof},
		{"no such domain", pinned(edit(two(Insecure), func(f *Facts) { f.MX, f.Hosts = Answer[MX]{Outcome: NXDomain, Proof: Insecure}, nil }), "pin", "pin"), "none", FromNothing, Nothing},
		{"MX lookup fails", pinned(edit(two(Secure), func(f *Facts) { f.MX, f.Hosts = servfail[MX](), nil }), "pin", "pin"), "defer", FromNothing, MXFailed},
		{"DANE on all", pinned(facts(Secure, "usable", "usable"), "pin", "pin"), "dane-only", FromDANE, DANEAll},
		{"DANE on some", pinned(facts(Secure, "usable", "none"), "pin", "pin"), "dane-only", FromDANE, DANERaised},
		{"DANE on some, one is pinned", pinned(facts(Secure, "usable", "none"), "pin", "none"), "dane", FromDANE, DANESome},
		{"unusable TLSA records", pinned(facts(Secure, "unusable", "unusable"), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"a TLSA lookup fails", pinned(facts(Secure, "tlsa-fails", "none"), "pin", "pin"), "secure", FromBanner, DANENarrowed},
		{"DANE behind unsigned MX records", pinned(facts(Insecure, "usable", "usable"), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"TXT record demands TLS", pinned(withTXT(two(Secure), Secure, tlsText), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"TXT record, one is pinned", pinned(withTXT(two(Secure), Secure, tlsText), "pin", "none"), "encrypt", FromTXT, TXTEncrypt},
		{"TXT record demands as much, pins not known", pinned(withTXT(two(Secure), Secure, webpkiText), "pin", "fails"), "secure", FromTXT, TXTWebPKI},
		{"TXT record demands less, pins not known", pinned(withTXT(two(Secure), Secure, tlsText), "pin", "fails"), "defer", FromBanner, BannerFailed},
		{"TXT record fails", pinned(edit(strictly(two(Secure)), func(f *Facts) { f.TXT = servfail[string]() }), "pin", "pin"), "secure", FromBanner, BannerAll},
		{"override", pinned(edit(two(Secure), func(f *Facts) { f.Override = &Override{Level: "may"} }), "pin", "pin"), "may", FromOverride, Overridden},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			last := r.Reasons[len(r.Reasons)-1]
			if r.Verdict.Name() != tc.verdict || r.Source != tc.source || last.Code != tc.decisive {
				t.Errorf("%s by %v, %s; reasons %v", r.Verdict.Name(), r.Source, last.Code, r.Reasons)
			}
			if r.Source == FromBanner && tc.decisive == BannerAll && r.TTL != 10*time.Minute {
				t.Errorf("holds for %v, longer than the pins", r.TTL)
			}
		})
	}
}

// TestBannerOnlyRaises: whatever else a domain has, no pin lowers its verdict.
func TestBannerOnlyRaises(t *testing.T) {
	classes := []string{"usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails"}
	words := []string{"pin", "none", "ended", "fails"}
	for _, proof := range []Proof{Secure, Insecure} {
		for _, one := range classes {
			for _, two := range classes {
				for i := range len(words) * len(words) {
					plain := facts(proof, one, two)
					before, after := Decide(plain), Decide(pinned(plain, words[i%len(words)], words[i/len(words)]))
					_, deferred := before.Verdict.(Defer)
					if Strictness(after.Verdict) < Strictness(before.Verdict) && !deferred {
						t.Errorf("%v %s %s, pins %d: %s, without %s", proof, one, two, i, after.Verdict.Name(), before.Verdict.Name())
					}
				}
			}
		}
	}
}

// TestBannerWould: what is only observed is told.
func TestBannerWould(t *testing.T) {
	f := pinned(facts(Insecure, "unsigned", "unsigned"), "pin", "pin")
	f.Rules.Banner = Observe
	r := Decide(f)
	if r.Would == nil || r.Would.Source != FromBanner || r.Would.Reason.Code != BannerAll {
		t.Fatalf("%+v", r.Would)
	}
	if want := (WebPKI{Hosts: f.Pinnable()}); !reflect.DeepEqual(r.Would.Verdict, want) {
		t.Errorf("%+v", r.Would.Verdict)
	}
	if !slices.ContainsFunc(r.Reasons, func(r Reason) bool { return r.Code == BannerObserved }) {
		t.Errorf("%v", r.Reasons)
	}
}

// TestPinnable: what nobody can pin in a bounded time is not asked for.
func TestPinnable(t *testing.T) {
	f := facts(Secure, "none")
	f.Rules.Banner = Enforce
	f.MX.Records = nil
	for i := range maxPinned + 1 {
		f.MX.Records = append(f.MX.Records, MX{Host: fmt.Sprintf("mx%d.example.com", i)})
	}
	if names := f.Pinnable(); names != nil {
		t.Errorf("%d names", len(names))
	}
	f.MX.Records = f.MX.Records[:2]
	f.Rules.ImplicitPort, f.Destination.Port = 26, 26
	if names := f.Pinnable(); len(names) != 2 {
		t.Errorf("on the port of implicit TLS: %v", names)
	}
	f.Destination = nexthop.Destination{Name: domain, Port: 25}
	defer func() {
		if p, _ := recover().(string); !strings.Contains(p, "never asked for") {
			t.Errorf("panic: %v", p)
		}
	}()
	Decide(f)
}
