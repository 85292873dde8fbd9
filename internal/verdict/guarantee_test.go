package verdict

import (
	"fmt"
	"testing"
)

// everyVerdict has one of each kind, and each level an operator can write.
func everyVerdict() []Verdict {
	list := []Verdict{
		NoPolicy{},
		NoPolicy{Report: &STSReport{}},
		DANE{},
		Encrypt{},
		STS{Patterns: []string{"mx.example"}},
		WebPKI{Hosts: []string{"mx.example"}},
		DANEOnly{},
		Fingerprint{Digests: make([][32]byte, 1)},
		Defer{},
	}
	for _, level := range []string{"none", "may", "encrypt", "dane", "dane-only", "fingerprint", "verify", "secure"} {
		list = append(list, Fixed{Level: level})
	}
	return list
}

// TestWeakensEveryPair has the whole order: for each promise, what it is weaker than.
// Written by hand, so that a change of the sets is a change here.
func TestWeakensEveryPair(t *testing.T) {
	class := func(v Verdict) string {
		switch v := v.(type) {
		case NoPolicy:
			return "opportunistic"
		case Fixed:
			return map[string]string{
				"none": "plain", "may": "opportunistic", "dane": "some", "encrypt": "encrypt",
				"dane-only": "all", "fingerprint": "all", "verify": "all", "secure": "all",
			}[v.Level]
		case DANE:
			return "some"
		case Encrypt:
			return "encrypt"
		case Defer:
			return "defer"
		}
		return "all"
	}
	weakens := map[string]bool{
		"opportunistic plain": true,
		"some plain":          true, "some opportunistic": true, "some encrypt": true,
		"encrypt plain": true, "encrypt opportunistic": true, "encrypt some": true,
		"all plain": true, "all opportunistic": true, "all encrypt": true, "all some": true,
	}
	for _, before := range everyVerdict() {
		for _, after := range everyVerdict() {
			t.Run(fmt.Sprintf("%T %s %T %s", before, before.Name(), after, after.Name()), func(t *testing.T) {
				a, ok := Guarantees(before)
				b, ok2 := Guarantees(after)
				if ok != (class(before) != "defer") || ok2 != (class(after) != "defer") {
					t.Fatalf("delivers: %v, %v", ok, ok2)
				}
				if !ok || !ok2 {
					return
				}
				if got, want := Weakens(a, b), weakens[class(before)+" "+class(after)]; got != want {
					t.Errorf("got %v", got)
				}
			})
		}
	}
	if Weakens(0, 0) || !Weakens(Tried, 0) || ofLevel("unheard of") != 0 {
		t.Error("the zero value promises something")
	}
}

// TestCauseOf has an example of each cause.
func TestCauseOf(t *testing.T) {
	for _, c := range []struct {
		before, after Source
		codes         []Code
		want          Cause
	}{
		{FromSTS, FromOverride, []Code{Overridden}, CauseOverride},
		{FromNothing, FromOverride, []Code{OverrideIgnore}, CauseOverride},
		{FromOverride, FromOverride, []Code{Overridden}, CauseOverride},
		{FromOverride, FromNothing, []Code{MXInsecure, STSAbsent, Nothing}, CauseOverrideEnded},
		{FromSTS, FromNothing, []Code{MXInsecure, STSNone, Nothing}, CauseWithdrawn},
		{FromSTS, FromNothing, []Code{STSTesting, Nothing}, CauseTesting},
		{FromSTS, FromNothing, []Code{STSAbsent, Nothing}, CauseExpired},
		{FromSTS, FromNothing, []Code{STSFailed, Nothing}, CauseUnrenewed},
		{FromSTS, FromNothing, []Code{STSUnfinished, Nothing}, CauseUnrenewed},
		{FromSTS, FromNothing, []Code{STSOff, Nothing}, CauseSettings},
		{FromSTS, FromNothing, []Code{STSObserved, Nothing}, CauseSettings},
		{FromSTS, FromDANE, []Code{MXSecure, TLSAUsable, DANESome, STSSkipped}, CauseRecords},
		{FromSTS, FromNothing, []Code{Nothing}, CauseUnknown},
		{FromDANE, FromNothing, []Code{MXInsecure, STSAbsent, Nothing}, CauseUnsigned},
		{FromDANE, FromNothing, []Code{MXSecure, HostInsecure, Nothing}, CauseUnsigned},
		{FromDANE, FromNothing, []Code{MXSecure, TLSAAbsent, Nothing}, CauseRecords},
		{FromDANE, FromDANE, []Code{MXSecure, TLSAUsable, TLSAAbsent, DANESome}, CauseRecords},
		{FromDANE, FromDANE, []Code{MXSecure, TLSAUnusable, DANEEncrypt}, CauseRecords},
		{FromDANE, FromNothing, []Code{DNSSECOff, Nothing}, CauseSettings},
		{FromDANE, FromNothing, []Code{Nothing}, CauseUnknown},
		{FromPrefix, FromNothing, []Code{PrefixUnsigned, Nothing}, CauseUnsigned},
		{FromPrefix, FromNothing, []Code{PrefixMixed, Nothing}, CauseSignal},
		{FromTXT, FromNothing, []Code{TXTObserved, Nothing}, CauseSettings},
		{FromBanner, FromNothing, []Code{BannerSome, Nothing}, CauseSignal},
		{FromNothing, FromNothing, []Code{Nothing}, CauseUnknown},
	} {
		var reasons []Reason
		for _, code := range c.codes {
			reasons = append(reasons, Reason{Code: code})
		}
		if got := CauseOf(c.before, c.after, reasons); got != c.want {
			t.Errorf("%v to %v, %v: %q, want %q", c.before, c.after, c.codes, got, c.want)
		}
	}
}
