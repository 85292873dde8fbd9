package fleet

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/nexthop"
	"tlsverdict/internal/signal"
)

// A record is text, so that an operator can read it where it lies:
//
//	tlsverdict/1 HMAC             or "-" where the fleet has no key
//	policy example.com            or "pin mx.example.com"
//	fetched 1764000000 id 20251124T160000
//	version: STSv1                the policy as the domain publishes it, or, for
//	mode: enforce                 a pin, the directive as a banner has it
//	...
//
// The third line of a pin is "seen 1764000000 until 1795557600". Times are seconds since
// 1970. The HMAC, SHA-256 in hexadecimal digits, is of everything after the first line.
const (
	// maxRecord bounds a record: a policy and the lines before it.
	maxRecord = mtasts.MaxPolicySize + 1<<10

	recordMark = "tlsverdict/1 "
	noMAC      = "-"
	noID       = "-"
	// slack is how far the clocks of a fleet may be apart.
	slack = 5 * time.Minute
)

var (
	// errForeign: what lies there was not written by this fleet, or was changed since. It
	// counts as nothing.
	errForeign = errors.New("fleet: not a record of this fleet")
	// errEnded: the record has ended, or has not begun. It counts as nothing.
	errEnded = errors.New("fleet: the record does not hold now")
)

// kind is what a record is about.
type kind string

const (
	policyKind kind = "policy"
	pinKind    kind = "pin"
)

// Key authenticates what nodes of one fleet tell each other. The zero value has no secret:
// then whoever can write to the shared store can write what it likes.
type Key struct{ secret string }

// LeastKey is how many octets a key has at least.
const LeastKey = 32

// NewKey makes a Key of a secret, without the white space at its end. It must have LeastKey
// octets, since who reads a record can try secrets without being seen.
func NewKey(secret []byte) (Key, error) {
	s := strings.TrimRight(string(secret), " \t\r\n")
	if len(s) < LeastKey {
		return Key{}, fmt.Errorf("fleet: a key of %d octets: want at least %d", len(s), LeastKey)
	}
	return Key{s}, nil
}

// Authentic reports whether there is a secret.
func (k Key) Authentic() bool { return k.secret != "" }

func (k Key) sum(text string) string {
	if !k.Authentic() {
		return noMAC
	}
	mac := hmac.New(sha256.New, []byte(k.secret))
	_, _ = mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// space is what the names of all records of this fleet begin with. Fleets with different
// keys do not see each other's, so that a key can be changed one node after another.
func (k Key) space() string {
	if !k.Authentic() {
		return "tlsverdict:1:open:"
	}
	return "tlsverdict:1:" + k.sum("name of the fleet")[:16] + ":"
}

// place is the name under which a record lies.
func (k Key) place(what kind, name string) string { return k.space() + string(what) + ":" + name }

// named returns what a place holds. It is false for what is no place of this fleet, and for
// names that nobody could have asked for.
func (k Key) named(place string) (what kind, name string, ok bool) {
	rest, ok := strings.CutPrefix(place, k.space())
	if !ok {
		return "", "", false
	}
	word, name, _ := strings.Cut(rest, ":")
	if what = kind(word); what != policyKind && what != pinKind {
		return "", "", false
	}
	n, err := nexthop.Normalize(name)
	return what, name, err == nil && n == name
}

// seal puts the first line before a text.
func (k Key) seal(text string) []byte { return []byte(recordMark + k.sum(text) + "\n" + text) }

// open returns the lines of a record that this fleet wrote: the third, and what follows it.
func (k Key) open(what kind, name string, record []byte) (times, body string, err error) {
	if len(record) > maxRecord {
		return "", "", fmt.Errorf("%w: more than %d octets", errForeign, maxRecord)
	}
	text, ok := strings.CutPrefix(string(record), recordMark)
	sum, text, more := strings.Cut(text, "\n")
	if !ok || !more {
		return "", "", fmt.Errorf("%w: no first line", errForeign)
	}
	if !hmac.Equal([]byte(sum), []byte(k.sum(text))) {
		return "", "", fmt.Errorf("%w: another key", errForeign)
	}
	title, text, _ := strings.Cut(text, "\n")
	if title != string(what)+" "+name {
		return "", "", fmt.Errorf("%w: it is about something else", errForeign)
	}
	times, body, _ = strings.Cut(text, "\n")
	return times, body, nil
}

// writePolicy returns the record of a policy, and until when it is of use.
func (k Key) writePolicy(c mtasts.Cached) []byte {
	id := c.ID
	if id == "" {
		id = noID
	}
	return k.seal(fmt.Sprintf("%s %s\nfetched %d id %s\n%s", policyKind, c.Domain, c.Fetched.Unix(), id, c.Policy.Text()))
}

// readPolicy reads the record of a domain's policy. Domain, ID, Policy and Fetched are set;
// the policy holds at now, and was not fetched after it. Errors wrap errForeign or errEnded.
func (k Key) readPolicy(domain string, record []byte, now time.Time) (mtasts.Cached, error) {
	times, body, err := k.open(policyKind, domain, record)
	if err != nil {
		return mtasts.Cached{}, err
	}
	words := strings.Split(times, " ")
	if len(words) != 4 || words[0] != "fetched" || words[2] != "id" {
		return mtasts.Cached{}, fmt.Errorf("%w: no times", errForeign)
	}
	c := mtasts.Cached{Domain: domain, ID: words[3]}
	if c.Fetched, err = readTime(words[1]); err != nil {
		return mtasts.Cached{}, err
	}
	if c.ID == noID {
		c.ID = ""
	} else if _, err := mtasts.ParseRecord([]string{"v=STSv1; id=" + c.ID + ";"}); err != nil {
		return mtasts.Cached{}, fmt.Errorf("%w: %w", errForeign, err)
	}
	if c.Policy, err = mtasts.ParsePolicy([]byte(body)); err != nil {
		return mtasts.Cached{}, fmt.Errorf("%w: %w", errForeign, err)
	}
	if c.Fetched.After(now.Add(slack)) {
		return mtasts.Cached{}, fmt.Errorf("%w: it was fetched in the future", errEnded)
	}
	if c.Fetched.After(now) {
		c.Fetched = now
	}
	if !c.Fresh(now) {
		return mtasts.Cached{}, errEnded
	}
	return c, nil
}

// writePin returns the record of a pin.
func (k Key) writePin(p *signal.Pin) []byte {
	return k.seal(fmt.Sprintf("%s %s\nseen %d until %d\n%s", pinKind, p.Host, p.Seen.Unix(), p.Until.Unix(), p.String()))
}

// readPin reads the record of a host's pin. Host, Pattern, IncludeSubDomains, Seen and Until
// are set; it holds at now, covers the host, and ends no later than a banner that was seen
// then can. Errors wrap errForeign or errEnded.
func (k Key) readPin(host string, record []byte, now time.Time) (signal.Pin, error) {
	times, body, err := k.open(pinKind, host, record)
	if err != nil {
		return signal.Pin{}, err
	}
	words := strings.Split(times, " ")
	if len(words) != 4 || words[0] != "seen" || words[2] != "until" || strings.Contains(body, "\n") {
		return signal.Pin{}, fmt.Errorf("%w: no times", errForeign)
	}
	p := signal.Pin{Host: host}
	if p.Seen, err = readTime(words[1]); err != nil {
		return signal.Pin{}, err
	}
	if p.Until, err = readTime(words[3]); err != nil {
		return signal.Pin{}, err
	}
	// A pin has no max-age of its own: it is in the times.
	b, err := signal.ParseBanner([]string{"220 " + body + "; max-age=1"})
	if err != nil {
		return signal.Pin{}, fmt.Errorf("%w: %w", errForeign, err)
	}
	if !b.Covers(host) {
		return signal.Pin{}, fmt.Errorf("%w: it does not cover the host", errForeign)
	}
	p.Pattern, p.IncludeSubDomains = b.Pattern, b.IncludeSubDomains
	if p.Seen.After(now.Add(slack)) {
		return signal.Pin{}, fmt.Errorf("%w: it was seen in the future", errEnded)
	}
	if p.Seen.After(now) {
		p.Seen = now
	}
	if last := p.Seen.Add(signal.MaxAge); p.Until.After(last) {
		p.Until = last
	}
	if !p.Holds(now) {
		return signal.Pin{}, errEnded
	}
	return p, nil
}

// readTime reads seconds since 1970.
func readTime(s string) (time.Time, error) {
	const most = 1 << 40 // the year 36812: nothing overflows
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > most {
		return time.Time{}, fmt.Errorf("%w: no time", errForeign)
	}
	return time.Unix(n, 0).UTC(), nil
}
