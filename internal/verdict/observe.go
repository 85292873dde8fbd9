package verdict

import "reflect"

// Would is what a ruling would be if no signal were only observed.
type Would struct {
	Verdict Verdict
	Source  Source
	// Reason is the decisive one.
	Reason Reason
}

// would decides again with every signal enforced that is only observed, and returns
// what comes of it, or nil if that is the verdict all the same. A signal that was not
// waited for stays out of it.
func (f Facts) would(v Verdict) *Would {
	r := &f.Rules
	if r.STS != Observe && r.Prefix != Observe && r.TXT != Observe && r.RR != Observe && r.Banner != Observe {
		return nil
	}
	for _, s := range []struct {
		mode  *Mode
		known bool
	}{
		{&r.STS, f.STS.Settled},
		{&r.Prefix, true},
		{&r.TXT, f.TXT.Outcome != Unasked},
		{&r.RR, f.RR.Outcome != Unasked},
		{&r.Banner, true},
	} {
		switch {
		case *s.mode == Observe && s.known:
			*s.mode = Enforce
		case *s.mode == Observe:
			*s.mode = Off
		}
	}
	d := decision{f: &f}
	other, source := d.wrapped(d.ladder())
	if _, none := other.(NoPolicy); none || reflect.DeepEqual(other, v) {
		// What there is to report of no policy is no other verdict.
		return nil
	}
	return &Would{other, source, d.reasons[len(d.reasons)-1]}
}

// Signal reports whether a code tells of a signal without a standard that was seen,
// believed or not.
func (c Code) Signal() bool {
	switch c {
	case PrefixAll, TXTEncrypt, TXTWebPKI, RREncrypt, RRWebPKI, BannerAll:
		return true
	}
	return c.Unbelieved() || c == PrefixObserved || c == TXTObserved || c == RRObserved || c == BannerObserved
}

// Unbelieved reports whether a code tells of a signal without a standard that was seen
// and is not believed, whatever its mode.
func (c Code) Unbelieved() bool {
	switch c {
	case PrefixUnsigned, PrefixMixed, TXTUnsigned, TXTInvalid, RRUnsigned, RRInvalid, BannerSome:
		return true
	}
	return false
}
