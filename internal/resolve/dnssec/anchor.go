package dnssec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ErrAnchors: a text holds no trust anchor, or one that cannot be read. Nothing can
// be validated with it.
var ErrAnchors = errors.New("dnssec: bad trust anchors")

// maxAnchorText is the largest text of anchors that is read, in octets. The root's is
// smaller than 1 KB.
const maxAnchorText = 1 << 20

// rootAnchors are the keys of the root zone, as IANA publishes them
// (https://data.iana.org/root-anchors/root-anchors.xml): of 2017 and of 2024.
const rootAnchors = `
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
`

// Anchors are the keys that are trusted without proof. A zone may have several: one
// match suffices, so that a roll of keys needs no change at a certain hour. For a name
// the closest anchor above it counts. They do not change.
type Anchors struct {
	zones map[name][]delegationSigner
}

// BuiltIn returns the anchors of the root zone that this program was built with.
func BuiltIn() *Anchors {
	a, err := ParseAnchors([]byte(rootAnchors))
	if err != nil {
		panic(err)
	}
	return a
}

// ParseAnchors reads DS and DNSKEY records, as in /usr/share/dns/root.ds, in
// Unbound's root.key, or in BIND's trust-anchors, managed-keys and trusted-keys
// statements. Revoked keys are passed over. What could never match is refused, or it
// would be found out when mail waits: a digest of another length than its type has, a key
// that may not sign or cannot be read, and a text of which no anchor has an algorithm and
// digest that can be checked here. Errors wrap ErrAnchors.
func ParseAnchors(text []byte) (*Anchors, error) { return parseAnchors(text, widest()) }

// parseAnchors reads what a suite can check.
func parseAnchors(text []byte, checks *suite) (*Anchors, error) {
	if len(text) > maxAnchorText {
		return nil, fmt.Errorf("%w: more than %d octets", ErrAnchors, maxAnchorText)
	}
	zone := string(text)
	if bindStatement().MatchString(zone) {
		zone = fromBIND(withoutComments(zone))
	}
	a := &Anchors{zones: make(map[name][]delegationSigner)}
	p := dns.NewZoneParser(strings.NewReader(zone), ".", "")
	p.SetDefaultTTL(0)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if err := a.add(rr, checks); err != nil {
			return nil, err
		}
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchors, err)
	}
	if len(a.zones) == 0 {
		return nil, fmt.Errorf("%w: no DS or DNSKEY record", ErrAnchors)
	}
	if !a.usable(checks) {
		return nil, fmt.Errorf("%w: none of them has an algorithm and a digest that are supported (of RSASHA256, RSASHA512, ECDSA P-256 and P-384, Ed25519 and RSASHA1, with SHA-256, SHA-384 or SHA-1): %s", ErrAnchors, clip(a.names()))
	}
	return a, nil
}

// widest is all that any setting accepts.
func widest() *suite {
	s := algorithms()
	s.acceptSHA1()
	return s
}

// usable reports an anchor that the suite can check. Others may be beside it, as those of
// an algorithm to come.
func (a *Anchors) usable(s *suite) bool {
	for _, list := range a.zones {
		if len(s.usable(list)) > 0 {
			return true
		}
	}
	return false
}

// bindStatement finds what only BIND's configuration has.
func bindStatement() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*(trust-anchors|managed-keys|trusted-keys)\s*\{`)
}

// add takes one record in. A key is kept as its digest, which says the same.
func (a *Anchors) add(rr dns.RR, checks *suite) error {
	h := rr.Header()
	zone, err := parseName(h.Name)
	if err != nil || h.Class != dns.ClassINET {
		return fmt.Errorf("%w: %s", ErrAnchors, plain(rr))
	}
	rdata, err := rdataOf(rr)
	if err != nil || len(rdata) <= flagsOf {
		return fmt.Errorf("%w: %s", ErrAnchors, plain(rr))
	}
	switch rr := rr.(type) {
	case *dns.DS:
		ds := readDS(rdata)
		if want := digestSize(ds.kind); want > 0 && want != len(ds.digest) {
			return fmt.Errorf("%w: %s: a digest of type %d has %d octets, and this one has %d", ErrAnchors, plain(rr), ds.kind, want, len(ds.digest))
		}
		a.zones[zone] = append(a.zones[zone], ds)
	case *dns.DNSKEY:
		if rr.Flags&dns.REVOKE != 0 {
			return nil
		}
		if problem := checks.unfit(rdata); problem != "" {
			return fmt.Errorf("%w: %s: %s", ErrAnchors, plain(rr), problem)
		}
		sum, _ := digest(dns.SHA256, append([]byte(zone), rdata...))
		a.zones[zone] = append(a.zones[zone], delegationSigner{tag: keyTag(rdata), algorithm: rr.Algorithm, kind: dns.SHA256, digest: sum})
	default:
		return fmt.Errorf("%w: %s is neither DS nor DNSKEY", ErrAnchors, plain(rr))
	}
	return nil
}

// plain writes a record for a line of a log.
func plain(rr dns.RR) string { return clip(strings.ReplaceAll(rr.String(), "\t", " ")) }

// unfit says why a key can never prove anything, or "". Of an algorithm that is not
// supported nothing is known.
func (s *suite) unfit(rdata []byte) string {
	k, protocol := readKey(rdata)
	switch {
	case protocol != protocolDNSSEC:
		return fmt.Sprintf("a key of DNSSEC has protocol 3, and this one has %d", protocol)
	case k.flags&dns.ZONE == 0:
		return "it lacks the zone flag (256), so that it may not sign"
	}
	read := s.keys[k.algorithm]
	if read == nil {
		return ""
	}
	if _, err := read(rdata[flagsOf:]); err != nil {
		return err.Error()
	}
	return ""
}

// withoutComments drops the comments of BIND's configuration.
func withoutComments(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		end, skip := -1, 0
		switch {
		case strings.HasPrefix(s, "/*"):
			end, skip = strings.Index(s, "*/"), 2
		case strings.HasPrefix(s, "//"), s[0] == '#':
			end = strings.IndexByte(s, '\n')
		case s[0] == '"':
			end, skip = strings.IndexByte(s[1:], '"')+1, 1
			if end > 0 {
				b.WriteString(s[:end+skip])
				s = s[end+skip:]
				continue
			}
			end = -1
		default:
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if end < 0 {
			break
		}
		s = s[end+skip:]
	}
	return b.String()
}

// fromBIND writes the entries of BIND's statements as records. An entry is
// `name kind n n n "data";`, in trusted-keys without the kind.
func fromBIND(s string) string {
	var b strings.Builder
	for entry := range strings.SplitSeq(s, ";") {
		if i := strings.LastIndexByte(entry, '{'); i >= 0 {
			entry = entry[i+1:]
		}
		f := strings.Fields(strings.NewReplacer(`"`, " ", "}", " ").Replace(entry))
		if len(f) < 2 {
			continue
		}
		rtype, rest := "DNSKEY", f[1:]
		switch f[1] {
		case "static-ds", "initial-ds":
			rtype, rest = "DS", f[2:]
		case "static-key", "initial-key":
			rest = f[2:]
		}
		fmt.Fprintf(&b, "%s IN %s %s\n", f[0], rtype, strings.Join(rest, " "))
	}
	return b.String()
}

// Zones lists the anchored zones, fully qualified and in lower case, each before those
// below it. Without the root among them, nothing is known of names outside of them: see
// Covers.
func (a *Anchors) Zones() []string {
	var list []string
	for _, zone := range slices.SortedFunc(maps.Keys(a.zones), compare) {
		list = append(list, zone.String())
	}
	return list
}

// Covers reports whether an anchor is at or above a name. Where none is, answers come out
// Indeterminate, and their chain ends in StepUnknown: that is the operator's choice of
// anchors, and no fault of a resolver or of the name.
func (a *Anchors) Covers(domain string) bool {
	n, err := parseName(domain)
	if err != nil {
		return false
	}
	_, ok := a.closest(n)
	return ok
}

// closest returns the zone of the closest anchor at or above a name.
func (a *Anchors) closest(n name) (name, bool) {
	for {
		if _, ok := a.zones[n]; ok {
			return n, true
		}
		if n == root {
			return "", false
		}
		n = n.parent()
	}
}

// govern reports that no anchor is between a zone and a name in it: where one is, the
// zone has nothing to say.
func (a *Anchors) govern(zone, n name) bool {
	closest, ok := a.closest(n)
	return !ok || zone.within(closest)
}

// top returns the anchored zone with the fewest labels: the root, where it is one.
func (a *Anchors) top() name {
	best := name("")
	for zone := range a.zones {
		if best == "" || zone.labels() < best.labels() || zone.labels() == best.labels() && compare(zone, best) < 0 {
			best = zone
		}
	}
	return best
}

// Notice is the kind of a Warning.
type Notice uint8

const (
	// Revoked: the zone's owner has revoked a key that is an anchor (RFC 5011 §2.1).
	// When it was the last one, nothing can be validated any more.
	Revoked Notice = iota + 1
	// Unknown: the zone publishes a key-signing key that is no anchor. It may be the
	// next one: the anchors should be renewed before it takes over.
	Unknown
)

// Warning says that the anchors of a zone will not do for ever.
type Warning struct {
	// Zone is fully qualified: "." for the root.
	Zone   string
	Key    KeyID
	Notice Notice
}

// String says what was seen.
func (w Warning) String() string {
	if w.Notice == Revoked {
		return fmt.Sprintf("trust anchor %v of zone %s is revoked", w.Key, w.Zone)
	}
	return fmt.Sprintf("zone %s publishes key %v, which is no trust anchor", w.Zone, w.Key)
}

// review holds a validated DNSKEY RRset against the anchors of its zone.
func (a *Anchors) review(set *rrset) []Warning {
	var found []Warning
	anchored := func(k *key) bool {
		return slices.ContainsFunc(a.zones[set.owner], func(ds delegationSigner) bool { return ds.matches(set.owner, k) })
	}
	for _, rd := range set.rdata {
		k, _ := readKey(rd)
		if k == nil || k.flags&dns.SEP == 0 {
			continue
		}
		w := Warning{Zone: set.owner.String(), Key: KeyID{k.tag, k.algorithm}, Notice: Unknown}
		if k.flags&dns.REVOKE != 0 {
			// Revoking a key changes its flags and hence its tag.
			before := bytes.Clone(rd)
			before[1] &^= dns.REVOKE
			if k, _ = readKey(before); anchored(k) {
				w.Key, w.Notice = KeyID{k.tag, k.algorithm}, Revoked
				found = append(found, w)
			}
			continue
		}
		if !anchored(k) {
			found = append(found, w)
		}
	}
	return found
}
