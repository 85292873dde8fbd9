package impact

import (
	"fmt"
	"slices"
	"strings"

	"tlsverdict/internal/maillog"
	"tlsverdict/internal/mtasts"
	"tlsverdict/internal/verdict"
)

// Ruled is what is demanded of a domain today.
type Ruled struct {
	Verdict verdict.Verdict
	Source  verdict.Source
}

// Row is one domain.
type Row struct {
	Domain string `json:"domain"`
	// Sent is how many messages went out, and how: each is one recipient's.
	Sent      int64 `json:"sent"`
	Clear     int64 `json:"clear"`
	Encrypted int64 `json:"encrypted"`
	Trusted   int64 `json:"trusted"`
	Verified  int64 `json:"verified"`
	Unlogged  int64 `json:"unlogged"`
	// Deferred counts attempts, Bounced messages.
	Deferred int64 `json:"deferred"`
	Bounced  int64 `json:"bounced"`
	// Verdict and Source are today's; empty where none was asked for.
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	// Pass, Likely, Wait and Unknown share out Sent.
	Pass    int64 `json:"pass"`
	Likely  int64 `json:"likely"`
	Wait    int64 `json:"wait"`
	Unknown int64 `json:"unknown"`
	// Why says in one line why mail would wait, or why it is not known.
	Why string `json:"why,omitempty"`
	// Now is what its hosts showed to a probe: good, bad or unknown; empty if there was
	// none. NowWhy says more.
	Now    string `json:"now,omitempty"`
	NowWhy string `json:"now_why,omitempty"`
}

// fate is what would have become of a message.
type fate uint8

const (
	unknown fate = iota
	pass
	likely
	wait
)

// Judge holds what went to a domain against what is demanded of it. With a nil verdict
// nothing is: the row has what the log says.
func (c *Collector) Judge(domain string, totals maillog.Totals, r Ruled) Row {
	t := c.domains[domain]
	if t == nil {
		return Row{Domain: domain}
	}
	row := Row{Domain: domain, Deferred: t.deferred, Bounced: t.bounced}
	if r.Verdict != nil {
		row.Verdict, row.Source = r.Verdict.Name(), r.Source.String()
	}
	var waits, unknowns reasons
	for _, way := range t.routes {
		way.tls = told(way, totals)
		row.count(way)
		f, why := judge(r.Verdict, way, totals.Checked[way.server])
		switch f {
		case pass:
			row.Pass += way.sent
		case likely:
			row.Likely += way.sent
		case wait:
			row.Wait += way.sent
			waits.add(way.sent, why)
		case unknown:
			row.Unknown += way.sent
			unknowns.add(way.sent, why)
		}
	}
	row.Why = waits.most()
	if row.Why == "" {
		row.Why = unknowns.most()
	}
	return row
}

// told corrects what a log seems to say: where a server logs nothing of TLS, no line is
// not clear text.
func told(way route, totals maillog.Totals) maillog.TLS {
	if way.tls == maillog.Clear && !totals.TLSLogged[way.server] {
		return maillog.Unlogged
	}
	return way.tls
}

func (r *Row) count(way route) {
	r.Sent += way.sent
	switch way.tls {
	case maillog.Clear:
		r.Clear += way.sent
	case maillog.Encrypted:
		r.Encrypted += way.sent
	case maillog.Trusted:
		r.Trusted += way.sent
	case maillog.Verified:
		r.Verified += way.sent
	case maillog.Unlogged:
		r.Unlogged += way.sent
	}
}

// reasons finds the one that most mail has.
type reasons struct {
	words []string
	sent  []int64
}

func (r *reasons) add(n int64, why string) {
	i := slices.Index(r.words, why)
	if i < 0 {
		r.words, r.sent = append(r.words, why), append(r.sent, 0)
		i = len(r.words) - 1
	}
	r.sent[i] += n
}

func (r *reasons) most() string {
	best := ""
	var n int64
	for i, why := range r.words {
		if r.sent[i] > n {
			best, n = why, r.sent[i]
		}
	}
	if more := len(r.words) - 1; more > 0 {
		best += fmt.Sprintf(" (and %d other reasons)", more)
	}
	return best
}

// judge says what would have become of the messages of one way. checked says that the
// server knows authorities at all.
func judge(v verdict.Verdict, way route, checked bool) (fate, string) {
	switch v := v.(type) {
	case nil:
		return unknown, ""
	case verdict.NoPolicy:
		return pass, ""
	case verdict.Defer:
		if v.Fault != verdict.Remote {
			return unknown, "no verdict: " + v.Text
		}
		return wait, v.Text
	case verdict.Encrypt:
		return encrypted(way)
	case verdict.DANE:
		return dane(way, unknown)
	case verdict.DANEOnly, verdict.Fingerprint:
		return dane(way, wait)
	case verdict.STS:
		return webPKI(way, checked, v.Patterns)
	case verdict.WebPKI:
		return webPKI(way, checked, v.Hosts)
	case verdict.Fixed:
		return fixed(v, way, checked)
	}
	panic(fmt.Sprintf("impact: a verdict of type %T", v))
}

const (
	inClear  = "it went in clear text"
	unlogged = "the log does not tell of TLS"
)

func encrypted(way route) (fate, string) {
	switch way.tls {
	case maillog.Clear:
		return wait, inClear
	case maillog.Unlogged:
		return unknown, unlogged
	case maillog.Encrypted, maillog.Trusted, maillog.Verified:
	}
	return pass, ""
}

// dane judges by TLSA records. clear is what becomes of mail in clear text: where only
// some hosts have records, it may have been to one that has none.
func dane(way route, clear fate) (fate, string) {
	switch way.tls {
	case maillog.Verified:
		return pass, ""
	case maillog.Clear:
		return clear, inClear
	case maillog.Unlogged:
		return unknown, unlogged
	case maillog.Encrypted, maillog.Trusted:
	}
	return unknown, "nobody compared the certificate with the TLSA records: a probe can"
}

func webPKI(way route, checked bool, patterns []string) (fate, string) {
	switch {
	case way.tls == maillog.Unlogged:
		return unknown, unlogged
	case way.tls == maillog.Clear:
		return wait, inClear
	case way.host == "":
		return unknown, "the log does not name the host"
	case !matches(way.host, patterns):
		return wait, way.host + " is not one of " + few(patterns)
	case way.tls == maillog.Encrypted && !checked:
		return unknown, "the mail server knows no certificate authorities (Postfix: smtp_tls_CAfile)"
	case way.tls == maillog.Encrypted:
		return wait, "the certificate of " + way.host + " does not hold"
	case way.tls == maillog.Trusted:
		return likely, ""
	}
	return pass, ""
}

func fixed(v verdict.Fixed, way route, checked bool) (fate, string) {
	switch v.Level {
	case "none", "may":
		return pass, ""
	case "encrypt":
		return encrypted(way)
	case "dane":
		return dane(way, unknown)
	case "dane-only", "fingerprint":
		return dane(way, wait)
	}
	// What names it wants is in attributes that are Postfix's own.
	f, why := webPKI(way, checked, []string{way.host})
	if f == pass {
		f = likely
	}
	return f, why
}

// matches reports whether a host is one of those that a verdict names (RFC 8461 §4.1).
func matches(host string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(text string) bool {
		p, err := mtasts.ParsePattern(text)
		return err == nil && p.Match(host)
	})
}

func few(list []string) string {
	const most = 3
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}
