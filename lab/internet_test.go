package lab

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// internet is testdata/internet.txtar, read: what there is to serve.
type internet struct {
	zones    []*zone
	hosts    []*mailHost
	policies []*policy
}

// zone is one domain in master file form, without its SOA and NS records.
type zone struct {
	name     string   // without the last dot
	signed   bool     //
	tampered []string // OWNER/TYPE, owner relative to the zone
	records  []string // still with the lab's own HOST and TLSA ... OF
}

// policy is what one MTA-STS policy host serves, and how it behaves.
type policy struct {
	domain  string
	reach   string // up, down, hanging, blocked
	body    []byte
	address string // IPv4
}

// The addresses are of the documentation ranges (RFC 5737, RFC 3849) and exist
// in the lab's namespaces only.
const (
	nameServer    = "198.51.100.53"
	policyServer  = "198.51.100.80"
	policyDown    = "198.51.100.81"
	policyHanging = "198.51.100.82"
	policyBlocked = "198.51.100.83"
	policyFalse   = "198.51.100.84"
	firstMailHost = 100 // 198.51.100.100 and 2001:db8:100::100, counting up
)

// readInternet reads the description and makes a certificate for each host.
func readInternet(file string, ca authorities) (*internet, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return nil, err
	}
	in, err := newInternet(archive, ca)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return in, nil
}

func newInternet(archive *txtar.Archive, ca authorities) (*internet, error) {
	var in internet
	var err error
	for _, f := range archive.Files {
		words := strings.Fields(f.Name)
		if words[0] == "policy" {
			err = in.addPolicy(words[1:], f.Data)
		} else {
			err = in.addZone(words, f.Data, ca)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return &in, nil
}

func (in *internet) addPolicy(words []string, body []byte) error {
	reaches := map[string]string{"up": policyServer, "down": policyDown, "hanging": policyHanging, "blocked": policyBlocked}
	p := &policy{domain: words[0], reach: "up", body: body}
	if len(words) > 1 {
		p.reach = words[1]
	}
	if p.address = reaches[p.reach]; p.address == "" {
		return fmt.Errorf("no such reach as %q", p.reach)
	}
	in.policies = append(in.policies, p)
	return nil
}

func (in *internet) addZone(words []string, body []byte, ca authorities) error {
	z := &zone{name: words[0]}
	for _, w := range words[1:] {
		if set, ok := strings.CutPrefix(w, "tampered="); ok {
			z.tampered = append(z.tampered, set)
		} else if w == "signed" {
			z.signed = true
		} else {
			return fmt.Errorf("unknown word %q", w)
		}
	}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSpace(line)
		if f := strings.Fields(line); len(f) >= 3 && f[1] == "HOST" {
			h, err := newMailHost(absolute(f[0], z.name), f[2], f[3:], ca)
			if err != nil {
				return err
			}
			h.number = firstMailHost + len(in.hosts)
			in.hosts = append(in.hosts, h)
		}
		if line != "" {
			z.records = append(z.records, line)
		}
	}
	in.zones = append(in.zones, z)
	return nil
}

// absolute returns the full name of an owner in a zone, without the last dot.
func absolute(owner, zone string) string {
	if owner == "@" {
		return zone
	}
	if full, ok := strings.CutSuffix(owner, "."); ok {
		return full
	}
	return owner + "." + zone
}

func (in *internet) host(name string) *mailHost {
	i := slices.IndexFunc(in.hosts, func(h *mailHost) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return in.hosts[i]
}

// masterFile renders a zone for the signer and the name server.
func (in *internet) masterFile(z *zone) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s.\n$TTL 60\n@ SOA ns.example. hostmaster.example. 1 3600 600 86400 30\n@ NS ns.example.\n", z.name)
	for _, record := range z.records {
		lines, err := in.expand(z, strings.Fields(record), record)
		if err != nil {
			return "", fmt.Errorf("%s: %s: %w", z.name, record, err)
		}
		fmt.Fprintln(&b, lines)
	}
	for _, p := range in.policies {
		if p.domain == z.name {
			fmt.Fprintf(&b, "mta-sts A %s\n_mta-sts TXT \"v=STSv1; id=1;\"\n", p.address)
		}
	}
	return b.String(), nil
}

// expand turns the lab's own record forms into standard ones.
func (in *internet) expand(z *zone, f []string, record string) (string, error) {
	switch {
	case len(f) >= 3 && f[1] == "HOST":
		h := in.host(absolute(f[0], z.name))
		return fmt.Sprintf("%s A %s\n%s AAAA %s", f[0], h.ipv4(), f[0], h.ipv6()), nil
	case len(f) == 7 && f[1] == "TLSA" && f[5] == "OF":
		h := in.host(f[6])
		if h == nil {
			return "", errors.New("no such host")
		}
		data, err := association(h, f[2], f[3], f[4])
		return strings.Join(append(f[:5:5], data), " "), err
	}
	return record, nil
}

// association computes a TLSA record's certificate association data in
// hexadecimal (RFC 6698 §2.1) for what the host presents.
func association(h *mailHost, usage, selector, matching string) (string, error) {
	chain := h.certificate.Certificate
	der := chain[0]
	if usage == "2" {
		der = chain[len(chain)-1]
	}
	if selector == "1" {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", err
		}
		der = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case "0":
		return hex.EncodeToString(der), nil
	case "1":
		sum := sha256.Sum256(der)
		return hex.EncodeToString(sum[:]), nil
	case "2":
		sum := sha512.Sum512(der)
		return hex.EncodeToString(sum[:]), nil
	}
	return "", fmt.Errorf("matching type %q cannot be computed", matching)
}

// tamper spoils the signature over one RRset of a signed zone's text: owner
// and type as in "tampered=OWNER/TYPE". The data stays, so that a resolver that
// does not validate sees nothing unusual.
func tamper(signed, zone, set string) (string, error) {
	owner, rrtype, _ := strings.Cut(set, "/")
	owner = absolute(owner, zone) + "."
	lines := strings.SplitAfter(signed, "\n")
	for i, line := range lines {
		f := strings.Fields(line)
		if len(f) < 13 || f[0] != owner || f[3] != "RRSIG" || f[4] != rrtype {
			continue
		}
		signature := f[12]
		spoilt := "AAAA" + signature[4:]
		if spoilt == signature {
			spoilt = "BBBB" + signature[4:]
		}
		lines[i] = strings.Replace(line, signature, spoilt, 1)
		return strings.Join(lines, ""), nil
	}
	return "", fmt.Errorf("%s has no signature over %s %s", zone, owner, rrtype)
}

func TestInternet(t *testing.T) {
	ca, err := newAuthorities()
	if err != nil {
		t.Fatal(err)
	}
	in, err := readInternet("testdata/internet.txtar", ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range in.zones {
		if _, err := in.masterFile(z); err != nil {
			t.Error(err)
		}
	}
	for _, p := range in.policies {
		if !slices.ContainsFunc(in.zones, func(z *zone) bool { return z.name == p.domain }) {
			t.Errorf("the policy of %s has no zone", p.domain)
		}
	}
	text, err := in.masterFile(in.zones[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mx A 198.51.100.100\n", "mx AAAA 2001:db8:100::100\n", "_25._tcp.mx TLSA 3 1 1 "} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", in.zones[0].name, want, text)
		}
	}
}

func TestTamper(t *testing.T) {
	const signed = "a.example.\t60\tIN\tMX\t10 mx.a.example.\n" +
		"a.example.\t60\tIN\tRRSIG\tMX 13 2 60 20300101000000 20260101000000 1 a.example. Zm9vYmFy\n"
	got, err := tamper(signed, "a.example", "@/MX")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(signed, "Zm9v", "AAAA", 1); got != want {
		t.Errorf("tamper = %q, want %q", got, want)
	}
	if _, err := tamper(signed, "a.example", "@/TLSA"); err == nil {
		t.Error("an RRset that is not there was spoilt without complaint")
	}
}
