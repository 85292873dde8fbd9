package socketmapd

import (
	"tlsverdict/internal/engine"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/verdict"
)

// appendVerdict tells a program what holds, in the words of the json map and at the
// cost of any other: the verdict's name, what it rests on, whose fault a deferral is,
// and whether MTAs are told of it. A deferral is an answer here like any other.
func appendVerdict(opt *Options, dst []byte, _ nexthop.Destination, r engine.Ruled) []byte {
	dst = append(append(dst, "OK "...), r.Verdict.Name()...)
	dst = append(append(dst, " source="...), r.Source.String()...)
	if v, ok := r.Verdict.(verdict.Defer); ok {
		dst = append(append(dst, " fault="...), v.Fault.String()...)
	}
	if opt.Observe {
		dst = append(dst, " mode=observe"...)
	}
	return dst
}
