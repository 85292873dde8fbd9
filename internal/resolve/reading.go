package resolve

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/tlsa"
	"tlsverdict/internal/verdict"
)

// result is an answer before its records are read as the type asked for.
type result struct {
	outcome   verdict.Outcome
	proof     verdict.Proof
	records   []dns.RR
	canonical string
	ttl       time.Duration
	failure   *verdict.Failure
	// abandoned: the asker gave up. It says nothing about the question.
	abandoned bool
	trail     verdict.Trail
}

func failed(fault verdict.Fault, detail string) result {
	return result{outcome: verdict.Failed, failure: &verdict.Failure{Fault: fault, Detail: detail}}
}

// typed reads the records of a result. A record whose data is not of its type's
// form makes the whole set unusable: to drop it would show another set than the
// one that was proven.
func typed[T any](res result, read func(dns.RR) (T, bool)) verdict.Answer[T] {
	if res.failure != nil {
		return verdict.Answer[T]{Outcome: verdict.Failed, Proof: res.proof, Failure: res.failure, Trail: res.trail}
	}
	a := verdict.Answer[T]{Outcome: res.outcome, Proof: res.proof, Canonical: res.canonical, TTL: res.ttl, Trail: res.trail}
	for _, rr := range res.records {
		rec, ok := read(rr)
		if !ok {
			h := rr.Header()
			return verdict.Fail[T](verdict.Remote, fmt.Sprintf("%v: a %v record that is malformed",
				printable(h.Name), dns.Type(h.Rrtype)))
		}
		a.Records = append(a.Records, rec)
	}
	return a
}

func readMX(rr dns.RR) (verdict.MX, bool) {
	mx, ok := rr.(*dns.MX)
	if !ok || mx.Mx == "" {
		return verdict.MX{}, false
	}
	return verdict.MX{Preference: mx.Preference, Host: hostName(mx.Mx)}, true
}

func readA(rr dns.RR) (netip.Addr, bool) {
	a, ok := rr.(*dns.A)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(a.A)
	return ip.Unmap(), ok && ip.Unmap().Is4()
}

func readAAAA(rr dns.RR) (netip.Addr, bool) {
	a, ok := rr.(*dns.AAAA)
	if !ok {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(a.AAAA)
	return ip, ok && ip.Is6()
}

func readTLSA(rr dns.RR) (tlsa.Record, bool) {
	t, ok := rr.(*dns.TLSA)
	// Three octets and no data are well-formed, and of no use.
	if !ok || t.Hdr.Rdlength < 3 {
		return tlsa.Record{}, false
	}
	data, err := hex.DecodeString(t.Certificate)
	return tlsa.Record{
		Usage:    tlsa.Usage(t.Usage),
		Selector: tlsa.Selector(t.Selector),
		Matching: tlsa.MatchingType(t.MatchingType),
		Data:     data,
	}, err == nil
}

func readTXT(rr dns.RR) (string, bool) {
	t, ok := rr.(*dns.TXT)
	if !ok || len(t.Txt) == 0 {
		return "", false
	}
	return unescape(strings.Join(t.Txt, "")), true
}

func readOctets(rr dns.RR) (string, bool) {
	r, ok := rr.(*dns.RFC3597)
	if !ok {
		return "", false
	}
	data, err := hex.DecodeString(r.Rdata)
	return string(data), err == nil
}

func readCNAME(rr dns.RR) (string, bool) {
	c, ok := rr.(*dns.CNAME)
	if !ok || c.Target == "" {
		return "", false
	}
	return hostName(c.Target), true
}

// parse reads a packet that answers the query. Unlike the library it refuses one
// that ends before its counts are met, where records would be missing unnoticed.
func parse(packet []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	count := func(off int) int { return int(binary.BigEndian.Uint16(packet[off:])) }
	if len(m.Question) != count(4) || len(m.Answer) != count(6) || len(m.Ns) != count(8) || len(m.Extra) != count(10) {
		return nil, fmt.Errorf("%w: it ends early", errMalformed)
	}
	return m, nil
}

// interpret says what a reply with NOERROR or NXDOMAIN answers to a question. Only
// the answer section counts, and in it only what the CNAME chain from the
// question's name leads to; of the authority section only the SOA's TTL is read
// (RFC 2308 §5).
func interpret(q question, m *dns.Msg) (result, error) {
	owner, ttl, err := follow(q, m.Answer)
	if err != nil {
		return result{}, err
	}
	res := result{outcome: verdict.Found}
	if owner != q.name {
		res.canonical = hostName(owner)
	}
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == q.rrtype && owns(h, owner, q.class) {
			res.records = append(res.records, rr)
			ttl = min(ttl, ttlOf(h))
		}
	}
	switch {
	case len(res.records) > 0 && m.Rcode == dns.RcodeNameError:
		return result{}, fmt.Errorf("%w: NXDOMAIN with records", errMalformed)
	case len(res.records) > 0:
		res.ttl = ttl
		return res, nil
	case lame(m):
		return result{}, errLame
	}
	soa, found := negativeTTL(m.Ns, owner, q.class)
	switch {
	case m.Rcode == dns.RcodeNameError:
		res.outcome = verdict.NXDomain
	case owner != q.name && !found:
		// A server that stopped on the way sends the same: only an SOA says
		// that the end of the chain was asked.
		return result{}, fmt.Errorf("%w: a CNAME chain without its end", errMalformed)
	default:
		res.outcome = verdict.NoData
	}
	res.ttl = min(ttl, soa)
	return res, nil
}

const forever = time.Duration(1<<31-1) * time.Second

// follow walks the CNAME chain from the question's name to its end and returns
// that name and the least TTL on the way.
func follow(q question, answer []dns.RR) (string, time.Duration, error) {
	owner, ttl := q.name, forever
	if q.rrtype == dns.TypeCNAME {
		return owner, ttl, nil
	}
	for range MaxLinks + 1 {
		link, err := linkAt(owner, q.class, answer)
		if err != nil || link == nil {
			return owner, ttl, err
		}
		ttl = min(ttl, ttlOf(&link.Hdr))
		owner = lower(link.Target)
	}
	return "", 0, fmt.Errorf("%w: a chain of more than %d CNAMEs, or a loop", errMalformed, MaxLinks)
}

// linkAt returns the CNAME at a name, or nil. Two that differ are no chain
// (RFC 2181 §10.1). A DNAME above the name without the CNAME that it stands for
// (RFC 6672 §3.1) would otherwise read as a denial.
func linkAt(owner string, class uint16, answer []dns.RR) (*dns.CNAME, error) {
	var link *dns.CNAME
	for _, rr := range answer {
		c, ok := rr.(*dns.CNAME)
		if !ok || !owns(&c.Hdr, owner, class) {
			continue
		}
		if c.Target == "" || link != nil && lower(link.Target) != lower(c.Target) {
			return nil, fmt.Errorf("%w: a CNAME without or with two targets", errMalformed)
		}
		link = c
	}
	if link != nil {
		return link, nil
	}
	for _, rr := range answer {
		if d, ok := rr.(*dns.DNAME); ok && below(owner, lower(d.Hdr.Name)) {
			return nil, fmt.Errorf("%w: a DNAME without its CNAME", errMalformed)
		}
	}
	return nil, nil
}

func owns(h *dns.RR_Header, owner string, class uint16) bool {
	return h.Class == class && len(h.Name) == len(owner) && lower(h.Name) == owner
}

// below reports whether a name is properly below another, both in lower case. It
// compares labels, since an escaped dot ends no label.
func below(name, parent string) bool {
	return name != parent && dns.IsSubDomain(parent, name)
}

// lame reports whether a reply without records denies nothing, since its sender
// only points elsewhere, or neither knows the answer nor looks for it.
func lame(m *dns.Msg) bool {
	referral := false
	for _, rr := range m.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			referral = true
		}
	}
	return referral || !m.RecursionAvailable && !m.Authoritative
}

// negativeTTL is the least of the SOA's own TTL and its MINIMUM field, and whether
// there is an SOA. Without one the denial must not be cached (RFC 2308 §5).
func negativeTTL(authority []dns.RR, owner string, class uint16) (time.Duration, bool) {
	for _, rr := range authority {
		soa, ok := rr.(*dns.SOA)
		if !ok || soa.Hdr.Class != class {
			continue
		}
		if zone := lower(soa.Hdr.Name); zone == owner || below(owner, zone) {
			return min(ttlOf(&soa.Hdr), seconds(soa.Minttl)), true
		}
	}
	return 0, false
}

func ttlOf(h *dns.RR_Header) time.Duration { return seconds(h.Ttl) }

// seconds reads a TTL; one with the top bit set is zero (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// hostName writes a name from the wire as this program does: lower case, no
// trailing dot, the root empty. Octets that no host name has are written \DDD, so
// that nothing that is printed can be taken for a space, a quote or a control
// character; such a name is refused when it is asked for.
func hostName(name string) string {
	name = strings.TrimSuffix(name, ".")
	plain := true
	for i := range len(name) {
		plain = plain && (name[i] == '.' || hostOctet(name[i]))
	}
	if plain {
		return lower(name)
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '.' || hostOctet(c) {
			b.WriteByte(lowerOctet(c))
			continue
		}
		if c == '\\' {
			c, i = escaped(name, i)
		}
		fmt.Fprintf(&b, `\%03d`, c)
	}
	return b.String()
}

// escaped reads the escape that begins at s[i], \DDD or \C, and returns its octet
// and the index of its last character.
func escaped(s string, i int) (byte, int) {
	if i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]) {
		if n := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0'); n < 256 {
			return byte(n), i + 3
		}
	}
	if i+1 < len(s) {
		return s[i+1], i + 1
	}
	return '\\', i
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// unescape returns the octets of a character string, which the library hands out
// in the form of a zone file.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			c, i = escaped(s, i)
		}
		b = append(b, c)
	}
	return string(b)
}

// printable makes any text fit for one line of a log, 100 octets at most.
func printable(s string) string { return clean(s, 100) }

// oneLine does so for a text of this program's own, with names of others in it.
func oneLine(s string) string { return clean(s, 600) }

func clean(s string, most int) string {
	var b strings.Builder
	for i := range len(s) {
		if b.Len() >= most {
			b.WriteString("...")
			break
		}
		if c := s[i]; c < ' ' || c > '~' {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
