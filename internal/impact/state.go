package impact

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"tlsverdict/internal/verdict"
)

// stateLife is how long a verdict that was written down is taken again.
const stateLife = 24 * time.Hour

// State is verdicts that were worked out before, so that long work can be taken up where
// it ended: one JSON object a line.
type State struct {
	known map[string]Ruled
	out   *json.Encoder
}

// line is one verdict, written down.
type line struct {
	Domain  string         `json:"domain"`
	At      time.Time      `json:"at"`
	Verdict string         `json:"verdict"`
	Source  verdict.Source `json:"source"`
	Names   []string       `json:"names,omitempty"`
}

// NewState reads what there is, and writes what is learnt behind it. Lines that are too old
// are passed over, and so is the last one where writing it was cut short; any other that
// makes no sense is an error, since the file is then somebody else's.
func NewState(file io.ReadWriter, now time.Time) (*State, error) {
	s := &State{known: make(map[string]Ruled), out: json.NewEncoder(file)}
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	var bad error
	for n := 1; in.Scan(); n++ {
		if bad != nil {
			return nil, bad
		}
		if len(in.Bytes()) == 0 {
			continue
		}
		var l line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil || l.Domain == "" {
			bad = fmt.Errorf("impact: line %d of the state is none of this program's", n)
			continue
		}
		v := l.restore()
		if v == nil || now.Sub(l.At) > stateLife || l.At.After(now) {
			continue
		}
		s.known[l.Domain] = Ruled{v, l.Source}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("impact: %w", err)
	}
	if bad != nil && len(s.known) == 0 {
		return nil, bad
	}
	if bad != nil {
		// What comes next begins on a line of its own.
		if _, err := io.WriteString(file, "\n"); err != nil {
			return nil, fmt.Errorf("impact: %w", err)
		}
	}
	return s, nil
}

// Known returns the verdict of before.
func (s *State) Known(domain string) (Ruled, bool) {
	r, ok := s.known[domain]
	return r, ok
}

// Save writes a verdict down, unless it is one that is worked out anew next time.
func (s *State) Save(domain string, r Ruled, now time.Time) error {
	l := line{Domain: domain, At: now.UTC().Truncate(time.Second), Verdict: r.Verdict.Name(), Source: r.Source}
	switch v := r.Verdict.(type) {
	case verdict.STS:
		l.Verdict, l.Names = "sts", v.Patterns
	case verdict.WebPKI:
		l.Verdict, l.Names = "webpki", v.Hosts
	case verdict.Fixed:
		l.Verdict, l.Names = "fixed", []string{v.Level}
	case verdict.Defer:
		return nil
	}
	if err := s.out.Encode(l); err != nil {
		return fmt.Errorf("impact: %w", err)
	}
	return nil
}

// restore is Save's other way round; nil for what it never writes.
func (l line) restore() verdict.Verdict {
	switch l.Verdict {
	case "none":
		return verdict.NoPolicy{}
	case "encrypt":
		return verdict.Encrypt{}
	case "dane":
		return verdict.DANE{}
	case "dane-only":
		return verdict.DANEOnly{}
	case "fingerprint":
		return verdict.Fingerprint{}
	}
	if len(l.Names) == 0 {
		return nil
	}
	switch l.Verdict {
	case "sts":
		return verdict.STS{Patterns: l.Names}
	case "webpki":
		return verdict.WebPKI{Hosts: l.Names}
	case "fixed":
		return verdict.Fixed{Level: l.Names[0]}
	}
	return nil
}
