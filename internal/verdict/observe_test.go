package verdict

import (
	"testing"

	"tlsverdict/internal/mtasts"
)

// TestWould: what is only observed is told beside the verdict, and changes nothing in it.
func TestWould(t *testing.T) {
	observed := func(f Facts) Facts {
		f.Rules.STS, f.Rules.Prefix, f.Rules.TXT, f.Rules.RR = Observe, Observe, Observe, Observe
		return f
	}
	for _, tc := range []struct {
		name    string
		facts   Facts
		verdict string
		would   string
		source  Source
	}{
		{"nothing is there", observed(strictly(facts(Secure, "none"))), "none", "", 0},
		{"sts", observed(sts(facts(Insecure, "unsigned"))), "none", "secure", FromSTS},
		{"sts testing", observed(withSTS(facts(Insecure, "unsigned"), mtasts.ModeTesting, "*.example.com")), "none", "", 0},
		{"prefix", observed(prefixed(facts(Secure, "none"), 1)), "none", "secure", FromPrefix},
		{"prefix unsigned", observed(prefixed(facts(Insecure, "unsigned"), 1)), "none", "", 0},
		{"prefix mixed", observed(prefixed(facts(Secure, "none", "none"), 1)), "none", "", 0},
		{"txt", observed(withTXT(facts(Secure, "none"), Secure, tlsText)), "none", "encrypt", FromTXT},
		{"txt, not waited for", observed(edit(strictly(facts(Secure, "none")), func(f *Facts) { f.TXT = Answer[string]{} })), "none", "", 0},
		{"txt fails", observed(edit(strictly(facts(Secure, "none")), func(f *Facts) { f.TXT = servfail[string]() })), "none", "defer", FromTXT},
		{"rr", observed(withRR(facts(Secure, "none"), Secure, webpkiText)), "none", "secure", FromRR},
		{"beside DANE", observed(withTXT(facts(Secure, "usable"), Secure, tlsText)), "dane-only", "", 0},
		{"beside some DANE", observed(withTXT(facts(Secure, "usable", "none"), Secure, tlsText)), "dane", "dane-only", FromDANE},
		{"sts not waited for", observed(edit(facts(Secure, "usable"), func(f *Facts) { f.STS = STSFacts{} })), "dane-only", "", 0},
		{"an override", edit(observed(withTXT(facts(Secure, "none"), Secure, tlsText)), func(f *Facts) { f.Override = &Override{} }), "none", "", 0},
		{"nothing is observed", withTXT(facts(Secure, "none"), Secure, tlsText), "encrypt", "", 0},
		{"off stays off", edit(observed(withTXT(facts(Secure, "none"), Secure, tlsText)), func(f *Facts) { f.Rules.TXT = Off }), "none", "", 0},
		{"one of two", edit(withRR(facts(Secure, "none"), Secure, webpkiText), func(f *Facts) { f.Rules.RR, f.TXT = Observe, found(Secure, tlsText) }), "encrypt", "secure", FromRR},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := Decide(tc.facts)
			if r.Verdict.Name() != tc.verdict {
				t.Errorf("the verdict is %s, want %s", r.Verdict.Name(), tc.verdict)
			}
			switch {
			case r.Would == nil && tc.would == "":
			case r.Would == nil || r.Would.Verdict.Name() != tc.would || r.Would.Source != tc.source:
				t.Errorf("would be %+v, want %s from %v", r.Would, tc.would, tc.source)
			case r.Would.Reason.Code == "":
				t.Error("no reason")
			}
		})
	}
}

// TestObserveChangesNothing: with every signal observed the verdict is the one with
// every signal off.
func TestObserveChangesNothing(t *testing.T) {
	classes := []string{"usable", "unusable", "none", "unsigned", "tlsa-fails", "a-fails", "gone", "unsigned-dead"}
	for _, mx := range []Proof{Secure, Insecure} {
		for _, raise := range []func(Facts) Facts{func(f Facts) Facts { return f }, aliased, func(f Facts) Facts { return prefixed(f, 2) }, byFingerprint} {
			for _, a := range classes {
				for _, b := range classes {
					f := withTXT(raise(facts(mx, a, b)), Secure, webpkiText)
					f.RR = servfail[string]()
					f.Rules.Prefix, f.Rules.TXT, f.Rules.RR = Observe, Observe, Observe
					off := f
					off.Rules.Prefix, off.Rules.TXT, off.Rules.RR = Off, Off, Off
					if o, n := Decide(f), Decide(off); o.Verdict.Name() != n.Verdict.Name() || o.TTL != n.TTL || o.Provisional != n.Provisional {
						t.Errorf("%v %s %s: %s %v observed, %s %v without", mx, a, b, o.Verdict.Name(), o.TTL, n.Verdict.Name(), n.TTL)
					}
				}
			}
		}
	}
}
