package world

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tlsverdict/internal/signal"
)

// Kind is what becomes of a question.
type Kind uint8

// The kinds of package documentation's list. The zero value is Insecure.
const (
	Insecure Kind = iota
	Secure
	Bogus
	ServFail
	Refused
	Timeout
	// Slow is late by Status.Delay, and otherwise as the zone is.
	Slow
)

// Status is what becomes of the questions for a zone, or for one name and type.
type Status struct {
	Kind Kind
	// Delay is for Slow.
	Delay time.Duration
}

// ParseStatus reads "secure", "insecure", "bogus", "servfail", "refused", "timeout",
// or "slow DURATION".
func ParseStatus(words ...string) (Status, error) {
	kinds := map[string]Kind{
		"secure": Secure, "insecure": Insecure, "bogus": Bogus, "servfail": ServFail,
		"refused": Refused, "timeout": Timeout,
	}
	if len(words) == 2 && words[0] == "slow" {
		d, err := time.ParseDuration(words[1])
		if err != nil || d <= 0 {
			return Status{}, fmt.Errorf("world: %q is not a delay", words[1])
		}
		return Status{Slow, d}, nil
	}
	if len(words) == 1 {
		if k, ok := kinds[words[0]]; ok {
			return Status{Kind: k}, nil
		}
	}
	return Status{}, fmt.Errorf("world: unknown status %q", strings.Join(words, " "))
}

// rrset names a set of records.
type rrset struct {
	name   string
	rrtype uint16
}

// zone is what is under one apex.
type zone struct {
	apex    string
	status  Status
	ttl     uint32
	records map[rrset][]dns.RR
	special map[rrset]Status
	signing signing
	// signed: it has keys, and its parent says so, whatever else its status is.
	signed bool
	keys   []key
	chain  *chain // nil: to be worked out
}

func newZone(apex string) *zone {
	return &zone{apex: apex, ttl: 3600, records: make(map[rrset][]dns.RR), special: make(map[rrset]Status), signing: defaultSigning()}
}

// become reads what follows a zone's name: its status, and how it is signed.
func (z *zone) become(words []string, now time.Time) error {
	n := 1
	if len(words) > 1 && words[0] == "slow" {
		n = 2
	}
	status, err := ParseStatus(words[:min(n, len(words))]...)
	if err != nil {
		return err
	}
	with := z.signing
	rolled := false
	for _, word := range words[n:] {
		if word == "rolled" {
			rolled = true
			continue
		}
		if err := with.option(word, now); err != nil {
			return err
		}
	}
	if rolled || with.algorithm != z.signing.algorithm || with.single != z.signing.single || with.spare != z.signing.spare {
		z.keys = nil
	}
	z.status, z.signing = status, with
	switch status.Kind {
	case Secure, Bogus:
		z.signed = true
	case Insecure:
		z.signed = false
	case ServFail, Refused, Timeout, Slow:
		// It is not heard, which changes nothing at its parent.
	}
	return nil
}

// statusOf is the status of one name and type. A slow answer is of the zone's kind.
func (z *zone) statusOf(name string, rrtype uint16) (Status, time.Duration) {
	st, delay := z.status, time.Duration(0)
	if st.Kind == Slow {
		st, delay = Status{}, st.Delay
		if z.signed {
			st.Kind = Secure
		}
	}
	for _, key := range []rrset{{name, rrtype}, {name, dns.TypeANY}} {
		if special, ok := z.special[key]; ok {
			if special.Kind == Slow {
				return st, special.Delay
			}
			return special, delay
		}
	}
	return st, delay
}

func (z *zone) soa() dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: z.apex, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: z.ttl},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 7200, Retry: 3600, Expire: 1209600, Minttl: z.ttl,
	}
}

// parse reads the data of one record; name may be relative to the zone, or "@".
func (z *zone) parse(line string) (dns.RR, error) {
	line = unnamed(line)
	text := fmt.Sprintf("$ORIGIN %s\n$TTL %d\n%s\n", z.apex, z.ttl, line)
	zp := dns.NewZoneParser(strings.NewReader(text), z.apex, "")
	rr, ok := zp.Next()
	if err := zp.Err(); err != nil {
		return nil, fmt.Errorf("world: %q: %w", line, err)
	}
	if !ok {
		return nil, fmt.Errorf("world: %q is no record", line)
	}
	rr.Header().Name = dns.CanonicalName(rr.Header().Name)
	if !dns.IsSubDomain(z.apex, rr.Header().Name) {
		return nil, fmt.Errorf("world: %q is not in the zone %s", line, z.apex)
	}
	return rr, nil
}

// unnamed writes the data of a record type without a name, {rr "TEXT"}, in the form that
// a zone file has for it (RFC 3597 §5).
func unnamed(line string) string {
	before, rest, ok := strings.Cut(line, `{rr "`)
	text, after, closed := strings.Cut(rest, `"}`)
	if !ok || !closed {
		return line
	}
	data := signal.RData(text)
	return fmt.Sprintf(`%s\# %d %x%s`, before, len(data), data, after)
}

func (z *zone) add(rr dns.RR) {
	key := rrset{rr.Header().Name, rr.Header().Rrtype}
	z.records[key] = append(z.records[key], rr)
}

// absolute turns a name of a zone file into a full one.
func (z *zone) absolute(name string) string {
	switch {
	case name == "@":
		return z.apex
	case dns.IsFqdn(name):
		return dns.CanonicalName(name)
	case z.apex == ".":
		return dns.CanonicalName(name + ".")
	}
	return dns.CanonicalName(name + "." + z.apex)
}

// loader reads zones line by line.
type loader struct {
	zones map[string]*zone
	zone  *zone
	fill  *strings.Replacer
	now   time.Time
}

func (l *loader) line(line string) error {
	if i := strings.IndexByte(line, ';'); i >= 0 && !strings.Contains(line, `"`) {
		line = line[:i]
	}
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
		return nil
	case words[0] == "zone":
		return l.begin(words[1:])
	case l.zone == nil:
		return fmt.Errorf("world: %q is before the first zone", line)
	case words[0] == "$TTL":
		return l.setTTL(words[1:])
	case words[0] == "%repeat":
		lines, err := Repeat(line)
		if err != nil {
			return err
		}
		for _, one := range lines {
			if err := l.line(one); err != nil {
				return err
			}
		}
		return nil
	case len(words) >= 3 && strings.HasPrefix(words[2], "!"):
		words[2] = words[2][1:]
		return l.zone.setSpecial(words[0], words[1], words[2:])
	}
	rr, err := l.zone.parse(l.fill.Replace(line))
	if err == nil {
		l.zone.add(rr)
	}
	return err
}

func (l *loader) begin(words []string) error {
	if len(words) < 2 || !dns.IsFqdn(words[0]) {
		return fmt.Errorf("world: want \"zone NAME. STATUS [OPTION...]\", not %q", words)
	}
	apex := dns.CanonicalName(words[0])
	if l.zones[apex] != nil {
		return fmt.Errorf("world: a second zone %s", apex)
	}
	l.zone = newZone(apex)
	l.zones[apex] = l.zone
	return l.zone.become(words[1:], l.now)
}

func (l *loader) setTTL(words []string) error {
	if len(words) == 1 {
		if n, err := strconv.ParseUint(words[0], 10, 31); err == nil {
			l.zone.ttl = uint32(n)
			return nil
		}
	}
	return fmt.Errorf("world: want \"$TTL SECONDS\", not %q", words)
}

func (z *zone) setSpecial(name, rrtype string, words []string) error {
	t := typeOf(rrtype)
	if t == 0 {
		return fmt.Errorf("world: unknown record type %q", rrtype)
	}
	status, err := ParseStatus(words...)
	if err == nil {
		z.special[rrset{z.absolute(name), t}] = status
	}
	return err
}

// typeOf is the number of a record type by its name or as TYPE65400 (RFC 3597 §5); 0 for
// what is none.
func typeOf(word string) uint16 {
	if t, ok := dns.StringToType[word]; ok {
		return t
	}
	digits, _ := strings.CutPrefix(word, "TYPE")
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || digits == word {
		return 0
	}
	return uint16(n)
}

// Repeat expands a line "%repeat N REST" to N lines, with "%d" in REST as 1 to N.
// Any other line comes back as it is.
func Repeat(line string) ([]string, error) {
	rest, ok := strings.CutPrefix(line, "%repeat ")
	if !ok {
		return []string{line}, nil
	}
	count, rest, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > 100_000 {
		return nil, fmt.Errorf("world: want \"%%repeat COUNT LINE\", not %q", line)
	}
	lines := make([]string, n)
	for i := range lines {
		lines[i] = strings.ReplaceAll(rest, "%d", strconv.Itoa(i+1))
	}
	return lines, nil
}

// placeholders are what stands for data that nobody wants to read in a zone.
func placeholders(key *ecdsa.PrivateKey) (*strings.Replacer, error) {
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("world: key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("world: certificate: %w", err)
	}
	digest := sha256.Sum256(spki)
	return strings.NewReplacer(
		"{sha256}", strings.Repeat("5a", 32), "{sha512}", strings.Repeat("5a", 64),
		"{key}", hex.EncodeToString(spki), "{cert}", hex.EncodeToString(cert),
		"{mail}", hex.EncodeToString(digest[:]),
	), nil
}
