package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// bound is how much a report shows of what has no bound of its own.
type bound struct {
	// list is how many elements of a list, text how many bytes of a string.
	list, text int
}

// bounds go from what a reader can take in to what always fits.
func bounds() []bound {
	return []bound{{50, 4000}, {20, 1000}, {6, 300}, {2, 100}}
}

// Fit shortens the report until its JSON has at most limit bytes: lists and texts
// first, where they need more than half of that, then the replies, the shorter ones
// last of all. Truncated then says so, and next to each list stands how many of its
// elements were left out. A limit below 40,000 is a programmer's error.
func (r *Report) Fit(limit int) error {
	if limit < 40_000 {
		panic(fmt.Sprintf("explain: a report cannot fit in %d bytes", limit))
	}
	replies := r.Replies
	defer func() { r.Replies = replies }()
	r.Replies = nil
	rest := 0
	for _, b := range bounds() {
		r.shorten(b)
		n, err := size(r)
		if err != nil {
			return err
		}
		// Replies and Truncated are not counted yet.
		if rest = n + len(`"truncated":true,"replies":{},`); rest <= limit/2 {
			break
		}
	}
	var err error
	replies, err = r.fitReplies(replies, limit-rest)
	return err
}

// least is what each reply may need, whatever the others take.
const least = 1000

// fitReplies cuts replies that do not fit in room bytes of JSON together, the
// longest first.
func (r *Report) fitReplies(replies map[string]string, room int) (map[string]string, error) {
	names := make([]string, 0, len(replies))
	for name := range replies {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if n := len(replies[a]) - len(replies[b]); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	out := make(map[string]string, len(replies))
	for i, name := range names {
		frame := len(name) + len(`"":,`)
		s, err := r.cutJSON(replies[name], room-frame-least*(len(names)-1-i))
		if err != nil {
			return nil, err
		}
		n, err := size(s)
		if err != nil {
			return nil, err
		}
		out[name] = s
		room -= n + frame
	}
	return out, nil
}

// cutJSON cuts s until it has at most limit bytes as a JSON string, which may have
// up to six for each byte of s.
func (r *Report) cutJSON(s string, limit int) (string, error) {
	for keep := len(s); ; keep = keep * 9 / 10 {
		c := r.cut(s, keep)
		n, err := size(c)
		if err != nil || n <= limit || keep == 0 {
			return c, err
		}
	}
}

func size(v any) (int, error) {
	data, err := json.Marshal(v)
	return len(data), err
}

// shorten bounds every list and every text that others than this program write.
func (r *Report) shorten(b bound) {
	r.Match = shortList(r, r.Match, b.list, &r.MatchLeftOut)
	r.texts(b, r.Match)
	r.text(b, &r.Error)
	if r.Pending != nil {
		r.text(b, &r.Pending.Error)
	}
	r.shortenObserved(b)
	r.shortenReasons(b)
	if r.Implicit != nil {
		// There are as few hosts as are judged.
		for i := range r.Implicit.Hosts {
			r.text(b, &r.Implicit.Hosts[i].Error)
		}
	}
	f := &r.Facts
	r.text(b, &f.Override)
	f.Hosts = shortList(r, f.Hosts, b.list, &f.HostsLeftOut)
	for i := range f.Strict {
		r.shortenRecords(b, &f.Strict[i].Records)
	}
	f.Signals = shortList(r, f.Signals, b.list, &f.SignalsLeftOut)
	r.texts(b, f.Signals)
	f.Chain = shortList(r, f.Chain, b.list, &f.ChainLeftOut)
	r.texts(b, f.Chain)
	if f.MX != nil {
		r.text(b, &f.MX.Error)
		f.MX.Records = shortList(r, f.MX.Records, b.list, &f.MX.LeftOut)
	}
	for i := range f.Hosts {
		r.shortenHost(b, &f.Hosts[i])
	}
	if f.STS != nil {
		r.shortenSTS(b, f.STS)
	}
}

// shortenReasons leaves out the middle: it is the first reasons that say what kind
// of domain it is, and the last ones that decide.
func (r *Report) shortenReasons(b bound) {
	if n := len(r.Reasons) - b.list; n > 0 {
		r.Reasons = slices.Delete(slices.Clone(r.Reasons), b.list/2, b.list/2+n)
		r.ReasonsLeftOut += n
		r.Truncated = true
	}
	for i := range r.Reasons {
		r.text(b, &r.Reasons[i].Subject)
		r.text(b, &r.Reasons[i].Text)
	}
}

func (r *Report) shortenHost(b bound, h *Host) {
	r.shortenRecords(b, &h.A)
	r.shortenRecords(b, &h.AAAA)
	if h.CNAME != nil {
		r.text(b, &h.CNAME.Error)
	}
	h.TLSA = shortList(r, h.TLSA, b.list, &h.TLSALeftOut)
	for i := range h.TLSA {
		r.shortenRecords(b, &h.TLSA[i].Records)
	}
}

func (r *Report) shortenSTS(b bound, s *STS) {
	r.text(b, &s.Error)
	if s.Record != nil {
		r.shortenRecords(b, s.Record)
	}
	if s.Policy != nil {
		s.Policy.MX = shortList(r, s.Policy.MX, b.list, &s.Policy.MXLeftOut)
		r.texts(b, s.Policy.MX)
	}
}

// shortenRecords shows fewer of one host's records than of the hosts.
func (r *Report) shortenRecords(b bound, a *Records) {
	r.text(b, &a.Error)
	a.Records = shortList(r, a.Records, max(2, b.list/5), &a.LeftOut)
	r.texts(b, a.Records)
}

// shortList cuts a list and counts what it loses.
func shortList[T any](r *Report, list []T, n int, leftOut *int) []T {
	if len(list) <= n {
		return list
	}
	*leftOut += len(list) - n
	r.Truncated = true
	return list[:n:n]
}

func (r *Report) texts(b bound, list []string) {
	for i := range list {
		r.text(b, &list[i])
	}
}

func (r *Report) text(b bound, s *string) { *s = r.cut(*s, b.text) }

// cut cuts a text that is longer than n bytes.
func (r *Report) cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	r.Truncated = true
	return cut(s, n)
}

// cut shortens s to n bytes, whole characters, and three dots.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
