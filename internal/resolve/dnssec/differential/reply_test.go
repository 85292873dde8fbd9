package differential

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"tlsverdict/internal/resolve/dnssec"
)

// honest answers as a recursive resolver does that was asked with CD: along the aliases
// to their end, whatever the zones are worth.
func (in *internet) honest(q question) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.rtype)
	m.Response, m.RecursionAvailable = true, true
	for n, links := q.name, 0; n != "" && links <= 16; links++ {
		n = in.link(m, question{n, q.rtype})
	}
	return m
}

// link answers for one name, and returns the name to go on with where it is an alias.
func (in *internet) link(m *dns.Msg, q question) string {
	z := in.closest(q)
	if rr := z.dnameAbove(q.name); rr != nil {
		target := strings.TrimSuffix(q.name, rr.Hdr.Name) + rr.Target
		m.Answer = append(m.Answer, z.sealed([]dns.RR{rr})...)
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: q.name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: rr.Hdr.Ttl}, Target: target})
		if q.rtype == dns.TypeCNAME {
			return ""
		}
		return target
	}
	source := z.source(q.name)
	if source == "" {
		z.denyName(m, q.name)
		return ""
	}
	rrs := z.get(source, q.rtype)
	if cname := z.get(source, dns.TypeCNAME); rrs == nil && cname != nil {
		rrs = cname
	}
	if rrs == nil {
		z.denyType(m, q.name, source)
		return ""
	}
	z.addRecords(m, q.name, source, rrs)
	if c, ok := rrs[0].(*dns.CNAME); ok && q.rtype != dns.TypeCNAME {
		return strings.ToLower(c.Target)
	}
	return ""
}

// addRecords adds what was found; who makes compact denials signs as it answers, and
// expands wildcards before.
func (z *zone) addRecords(m *dns.Msg, n, source string, rrs []dns.RR) {
	switch {
	case source == n:
		m.Answer = append(m.Answer, z.sealed(rrs)...)
	case z.style == byCompact:
		m.Answer = append(m.Answer, z.sealed(renamed(rrs, n))...)
	default:
		m.Answer = append(m.Answer, renamed(z.sealed(rrs), n)...)
		z.denyExact(m, n)
	}
}

// source is the name whose records answer: the name itself, the wildcard that stands
// for it, or "" where there is none.
func (z *zone) source(n string) string {
	if z.ordered().exists[n] {
		return n
	}
	if w := wildcardAt(z.encloser(n)); z.ordered().exists[w] {
		return w
	}
	return ""
}

func (z *zone) dnameAbove(n string) *dns.DNAME {
	for n != z.apex && n != "." {
		n = above(n)
		if rrs := z.get(n, dns.TypeDNAME); rrs != nil {
			return rrs[0].(*dns.DNAME)
		}
	}
	return nil
}

func renamed(rrs []dns.RR, n string) []dns.RR {
	out := make([]dns.RR, len(rrs))
	for i, rr := range rrs {
		out[i] = dns.Copy(rr)
		out[i].Header().Name = n
	}
	return out
}

// reply is what goes over the wire, made once: everyone who asks gets the same.
func (in *internet) reply(q question) []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	if b := in.packed[q]; b != nil {
		return b
	}
	m := in.forged[q]
	if m == nil {
		m = in.honest(q)
	}
	m = m.Copy()
	m.Compress = true
	m.SetEdns0(65000, true)
	b, err := m.Pack()
	if err != nil {
		in.t.Errorf("%v: %v", q, err)
		b, _ = new(dns.Msg).SetRcode(m, dns.RcodeServerFailure).Pack()
	}
	in.packed[q] = b
	return b
}

// Exchange is the internet as our validator sees it.
func (in *internet) Exchange(_ context.Context, q dnssec.Query) (*dns.Msg, error) {
	m := new(dns.Msg)
	return m, m.Unpack(in.reply(question{q.Name, q.Type}))
}

// ServeDNS is the internet as other validators see it.
func (in *internet) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	if len(r.Question) != 1 {
		return
	}
	b := slices.Clone(in.reply(question{strings.ToLower(r.Question[0].Name), r.Question[0].Qtype}))
	room := dns.MinMsgSize
	if opt := r.IsEdns0(); opt != nil {
		room = int(opt.UDPSize())
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && len(b) > room {
		m := new(dns.Msg).SetReply(r)
		m.Truncated = true
		_ = w.WriteMsg(m) // who asked will ask again
		return
	}
	b[0], b[1] = byte(r.Id>>8), byte(r.Id)
	_, _ = w.Write(b)
}

// serve listens on a port of loopback, UDP and TCP, and returns its address.
func (in *internet) serve(t testing.TB) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: in}, {Listener: l, Handler: in}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.ActivateAndServe() // it ends with Shutdown
		}()
		<-ready
		t.Cleanup(func() {
			_ = s.Shutdown()
			<-done
		})
	}
	return pc.LocalAddr().String()
}

// truth is what there is to know of a question, worked out from the zones and not from
// replies.
type truth struct {
	worth   worth
	rcode   int
	records []dns.RR
	// either: NOERROR and NXDOMAIN are both true. The name does not exist, and the
	// NSEC at it says so whatever the rcode is (RFC 9824 §2).
	either bool
}

// truth follows the aliases in the zones.
func (in *internet) truth(q question) truth {
	all := truth{worth: secure}
	for n, links := q.name, 0; ; links++ {
		one, next := in.truthAt(question{n, q.rtype})
		all.worth = min(all.worth, one.worth)
		if next == "" || links > dnssec.MaxLinks {
			all.rcode, all.records, all.either = one.rcode, one.records, one.either
			if links > dnssec.MaxLinks {
				all.worth = failed
			}
			return all
		}
		n = next
	}
}

// truthAt is of one link.
func (in *internet) truthAt(q question) (truth, string) {
	z := in.closest(q)
	one := truth{worth: z.standing()}
	if rr := z.dnameAbove(q.name); rr != nil {
		target := strings.TrimSuffix(q.name, rr.Hdr.Name) + rr.Target
		if q.rtype == dns.TypeCNAME {
			one.records = []dns.RR{&dns.CNAME{Hdr: dns.RR_Header{Name: q.name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET}, Target: target}}
			return one, ""
		}
		return one, target
	}
	source := z.source(q.name)
	one.either = source == "" && z.style == byCompact
	switch {
	case source == "" && z.style != byCompact:
		one.rcode = dns.RcodeNameError
		one.worth = min(one.worth, z.denialWorth(q.name))
	case z.get(source, q.rtype) != nil:
		one.records = renamed(z.get(source, q.rtype), q.name)
	case z.get(source, dns.TypeCNAME) != nil:
		c := z.get(source, dns.TypeCNAME)[0].(*dns.CNAME)
		if source != q.name {
			one.worth = min(one.worth, z.denialWorth(q.name))
		}
		return one, strings.ToLower(c.Target)
	default:
		one.worth = min(one.worth, z.denialWorth(q.name))
	}
	if one.records != nil && source != q.name {
		one.worth = min(one.worth, z.denialWorth(q.name))
	}
	return one, ""
}

// standing is what a zone is worth with all that is above it.
func (z *zone) standing() worth {
	if z.parent == nil {
		return z.worth
	}
	if up := z.parent.standing(); up != secure {
		return up
	}
	return z.worth
}

// denialWorth is what a denial about a name can be worth: nothing with too many
// iterations, and in an opt-out span only where the name itself is in the chain.
func (z *zone) denialWorth(n string) worth {
	switch {
	case z.style != byNSEC3 && z.style != byOptOut:
		return secure
	case z.iterations > dnssec.MaxIterations:
		return insecure
	case z.style == byOptOut:
		if _, ok := z.ordered().types[z.hash(n)]; !ok {
			return insecure
		}
	}
	return secure
}
