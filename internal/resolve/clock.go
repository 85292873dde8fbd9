package resolve

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Span is from when until when the root says that a signature of its own holds, as a
// server passes it on: what the clock here can be held against. It is not validated: a
// clock that is wrong is what keeps it from being so.
type Span struct {
	Server      netip.AddrPort
	From, Until time.Time
	// Problem is why there is none; else empty.
	Problem string
}

// RootSignatures asks each server for the root's SOA record, which is signed anew every
// day, for two weeks or so.
func (r *Resolver) RootSignatures(ctx context.Context) []Span {
	var all []Span
	for _, srv := range r.servers() {
		all = append(all, r.rootSignature(ctx, srv))
	}
	return all
}

func (r *Resolver) rootSignature(ctx context.Context, srv *server) Span {
	s := Span{Server: srv.addr}
	in := inquiry{question: question{".", dns.TypeSOA, dns.ClassINET}, bits: validating{}.bits()}
	m, err := r.question(ctx, srv, in, free())
	if err != nil {
		s.Problem = printable(err.Error())
		return s
	}
	for _, rr := range m.Answer {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.TypeCovered == dns.TypeSOA {
			s.From, s.Until = time.Unix(int64(sig.Inception), 0), time.Unix(int64(sig.Expiration), 0)
			return s
		}
	}
	s.Problem = "it passes no signature of the root on"
	return s
}
