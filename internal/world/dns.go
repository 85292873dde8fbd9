package world

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Latency is how long a DNS answer takes.
const Latency = 20 * time.Millisecond

const (
	maxChain = 12
	maxUDP   = 1232
)

// Behaviour is how a resolver treats those who ask it.
type Behaviour uint8

const (
	// Validating: AD on what is secure, SERVFAIL on what is bogus.
	Validating Behaviour = iota
	// Forwarding: it passes answers on, bogus ones too, and never sets AD.
	Forwarding
	// AlwaysAD: it validates nothing and sets AD on everything.
	AlwaysAD
	// Down: nobody listens.
	Down
	// Silent: it takes questions and never answers.
	Silent
	// Strips: it knows nothing of DNSSEC. It validates nothing, ignores DO, and passes
	// neither signatures nor denials on.
	Strips
	// StripsAll is Strips, and has neither DS nor DNSKEY records.
	StripsAll
)

// ParseBehaviour reads "validating", "forwarding", "always-ad", "down", "silent",
// "strips" or "strips-all".
func ParseBehaviour(word string) (Behaviour, error) {
	for b, name := range []string{"validating", "forwarding", "always-ad", "down", "silent", "strips", "strips-all"} {
		if name == word {
			return Behaviour(b), nil
		}
	}
	return 0, fmt.Errorf("world: unknown behaviour of a resolver %q", word)
}

// Question is one that a resolver was asked.
type Question struct {
	// Name is in lower case, with a trailing dot.
	Name, Type string
	// Server is the address that was asked, Network "udp" or "tcp".
	Server, Network string
	At              time.Time
	// Probe: it is about the resolver, not about a destination.
	Probe bool
	// Chain: it is for the keys of a zone or what its parent says of them.
	Chain bool
}

// String writes the question as "NAME TYPE".
func (q Question) String() string { return q.Name + " " + q.Type }

// DNS is all name servers there are, behind recursive resolvers at any address.
type DNS struct {
	// key is that of all mail servers.
	key  *ecdsa.PrivateKey
	fill *strings.Replacer

	mu        sync.Mutex
	zones     map[string]*zone
	behaviour map[string]Behaviour // by server address; "" is the default
	attacks   map[target]*attack
	signer    signer
	// ahead is how far the clock of this host is ahead of everybody else's.
	ahead time.Duration
	log   []Question
}

func newDNS() (*DNS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("world: key: %w", err)
	}
	fill, err := placeholders(key)
	if err != nil {
		return nil, err
	}
	d := &DNS{
		key: key, fill: fill, zones: make(map[string]*zone), behaviour: make(map[string]Behaviour), attacks: make(map[target]*attack),
		signer: signer{made: make(map[string]*dns.RRSIG)},
	}
	// The root is signed. The others are zones that resolvers serve themselves
	// (RFC 6303 §4.1, RFC 8375 §6), and that nobody signs.
	return d, d.Load(`
zone . secure
$TTL 86400
@  NS  a.root-servers.invalid.
zone localhost. insecure
@  A   127.0.0.1
zone 10.in-addr.arpa. insecure
@  NS  localhost.
zone home.arpa. insecure
@  NS  localhost.
`)
}

// Load adds zones in the format of the package documentation. Errors name the line.
func (d *DNS) Load(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.changed()
	l := loader{zones: d.zones, fill: d.fill, now: d.now()}
	for i, line := range strings.Split(text, "\n") {
		if err := l.line(line); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

// SetZone changes a zone: words as they follow the name of a zone in Load.
func (d *DNS) SetZone(apex string, words ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	z := d.zones[dns.CanonicalName(apex)]
	if z == nil {
		return fmt.Errorf("world: no zone %q", apex)
	}
	defer d.changed()
	return z.become(words, d.now())
}

// SetClock lets the clock of this host be wrong: ahead of everybody else's by d, or
// behind where d is negative.
func (d *DNS) SetClock(ahead time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ahead = ahead
}

// now is the right time. d.mu is held.
func (d *DNS) now() time.Time { return time.Now().Add(-d.ahead) }

// changed lets denials be worked out anew. d.mu is held.
func (d *DNS) changed() {
	for _, z := range d.zones {
		z.chain = nil
	}
}

// Anchors returns the DS records of the root, as a resolver is configured with them.
func (d *DNS) Anchors() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, err := d.zones["."].delegation(86400)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, ds := range all {
		text.WriteString(ds.String() + "\n")
	}
	return []byte(text.String()), nil
}

// SetStatus changes the status of one name, which is absolute, and type ("ANY" for
// all): words as ParseStatus reads them, or "normal" for that of the zone.
func (d *DNS) SetStatus(name, rrtype string, words ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	z := d.home(dns.CanonicalName(name), typeOf(rrtype))
	if len(words) == 1 && words[0] == "normal" {
		delete(z.special, rrset{dns.CanonicalName(name), typeOf(rrtype)})
		return nil
	}
	return z.setSpecial(name, rrtype, words)
}

// Add adds a record in the format of a zone file; its owner is absolute.
func (d *DNS) Add(line string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	owner, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	if !dns.IsFqdn(owner) {
		return fmt.Errorf("world: %q is not an absolute name", owner)
	}
	z := d.find(dns.CanonicalName(owner))
	rr, err := z.parse(d.fill.Replace(line))
	if err == nil {
		z.add(rr)
		d.changed()
	}
	return err
}

// Remove takes away the records of a name and type. There must be some.
func (d *DNS) Remove(name, rrtype string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	z, key := d.find(dns.CanonicalName(name)), rrset{dns.CanonicalName(name), typeOf(rrtype)}
	if len(z.records[key]) == 0 {
		return fmt.Errorf("world: there is no %s %s to remove", name, rrtype)
	}
	delete(z.records, key)
	d.changed()
	return nil
}

// Behave changes a resolver, by its address as it is dialled ("127.0.0.1:53"), or
// all of them ("").
func (d *DNS) Behave(server string, b Behaviour) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if server == "" {
		clear(d.behaviour)
	}
	d.behaviour[server] = b
}

// Asked returns the questions so far, in the order in which they came.
func (d *DNS) Asked() []Question {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Question(nil), d.log...)
}

// Has reports whether a name has this address, whatever its status. It asks nobody.
func (d *DNS) Has(name string, addr netip.Addr) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range []uint16{dns.TypeA, dns.TypeAAAA} {
		for _, rr := range d.recurse(request{name: name, rrtype: t, behaviour: Forwarding}).answer {
			switch rr := rr.(type) {
			case *dns.A:
				if ip, _ := netip.AddrFromSlice(rr.A); ip.Unmap() == addr {
					return true
				}
			case *dns.AAAA:
				if ip, _ := netip.AddrFromSlice(rr.AAAA); ip == addr {
					return true
				}
			}
		}
	}
	return false
}

// Dial connects to a resolver; network is "udp" or "tcp". It fits resolve.Config.
func (d *DNS) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.behaviourOf(address) == Down {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: Addr(address), Err: errors.New("connection refused")}
	}
	f := stream
	if network == "udp" {
		f = datagrams
	}
	server, client := pair(f, address)
	go d.serve(server, network, address)
	return client, nil
}

func (d *DNS) behaviourOf(server string) Behaviour {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b, ok := d.behaviour[server]; ok {
		return b
	}
	return d.behaviour[""]
}

// serve answers on one connection until its client closes it.
func (d *DNS) serve(c net.Conn, network, address string) {
	defer c.Close()
	for {
		packet, err := readPacket(c, network)
		if err != nil {
			return
		}
		query := new(dns.Msg)
		if query.Unpack(packet) != nil || len(query.Question) != 1 {
			return
		}
		reply, delay := d.answer(query, network, address)
		if reply == nil {
			continue
		}
		packet, err = pack(reply, network)
		if err != nil {
			return
		}
		// No goroutine waits for it, so that none is left over at the end.
		time.AfterFunc(delay, func() { _, _ = c.Write(packet) })
	}
}

func readPacket(c net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		return b[:n], err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, b)
	return b, err
}

func pack(m *dns.Msg, network string) ([]byte, error) {
	m.Compress = true
	if network == "udp" {
		m.Truncate(maxUDP)
	}
	b, err := m.Pack()
	if err != nil || network == "udp" {
		return b, err
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...), nil
}

// answer makes the reply to a query and says how late it is; nil is none at all.
func (d *DNS) answer(query *dns.Msg, network, address string) (*dns.Msg, time.Duration) {
	b := d.behaviourOf(address)
	q := query.Question[0]
	q.Name = dns.CanonicalName(q.Name)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, Question{
		Name: q.Name, Type: dns.Type(q.Qtype).String(), Server: address, Network: network, At: time.Now(), Probe: isProbe(q),
		Chain: q.Qtype == dns.TypeDS || q.Qtype == dns.TypeDNSKEY,
	})
	if b == Silent {
		return nil, 0
	}
	m := new(dns.Msg)
	m.SetReply(query)
	m.RecursionAvailable = true
	opt := query.IsEdns0()
	strips := b == Strips || b == StripsAll
	do := opt != nil && opt.Do() && !strips
	if opt != nil {
		m.SetEdns0(maxUDP, do)
	}
	if q.Qclass == dns.ClassCHAOS {
		m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{"world"}}}
		m.AuthenticatedData = b == AlwaysAD
		return m, Latency
	}
	m.CheckingDisabled = query.CheckingDisabled
	found := d.recurse(request{name: q.Name, rrtype: q.Qtype, server: address, behaviour: b, do: do, cd: query.CheckingDisabled})
	if found.silent {
		return nil, 0
	}
	m.Rcode, m.Answer, m.Ns = found.rcode, found.answer, found.authority
	if reply := m.IsEdns0(); reply != nil && found.why != "" {
		reply.Option = append(reply.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus, ExtraText: found.why})
	}
	wanted := query.AuthenticatedData || do
	answered := m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError
	m.AuthenticatedData = b == AlwaysAD || b == Validating && wanted && answered && found.secure && !query.CheckingDisabled
	return m, Latency + found.delay
}

// isProbe tells what is asked about a resolver itself from what is asked about
// destinations.
func isProbe(q dns.Question) bool {
	return q.Name == "." || q.Qclass == dns.ClassCHAOS || q.Name == "10.in-addr.arpa." || q.Name == "home.arpa."
}

// find returns the zone that a name is in; the root holds all others.
func (d *DNS) find(name string) *zone {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if z := d.zones[name[off:]]; z != nil {
			return z
		}
	}
	return d.zones["."]
}

// home is the zone that answers for a name and type: of a DS, the one above.
func (d *DNS) home(name string, rrtype uint16) *zone {
	z := d.find(name)
	if rrtype == dns.TypeDS && name == z.apex && name != "." {
		return d.find(up(name))
	}
	return z
}
