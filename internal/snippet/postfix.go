package snippet

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// NewestPostfix is what is assumed where none is installed.
const NewestPostfix = "3.11.0"

// AnyPostfix is a release with lines that every one from 3.6 on takes.
const AnyPostfix = "3.9.9"

// Postfix is what is known of an installed Postfix.
type Postfix struct {
	// Version is mail_version; empty: none is installed.
	Version string
	// Chrooted: smtp(8) runs below the queue directory.
	Chrooted bool
	// Queue is the queue directory; empty is /var/spool/postfix.
	Queue string
	// Digest is smtp_tls_fingerprint_digest; empty is the default of the version.
	Digest string
	// Level is smtp_tls_security_level. One that is set stays.
	Level string
	// PolicyMaps and TransportMaps are smtp_tls_policy_maps and transport_maps. What other
	// tables they have stays, in front of policyd.
	PolicyMaps, TransportMaps string
}

const (
	mainCF   = "/etc/postfix/main.cf"
	masterCF = "/etc/postfix/master.cf"
)

// For is the configuration that has it ask policyd. The error is ErrUnfit.
func (p Postfix) For(d Daemon) (Snippet, error) {
	d = d.settled()
	s := Snippet{MTA: "postfix", Version: or(p.Version, NewestPostfix), First: []string{}, Then: []string{"postfix reload"}}
	v := parseVersion(s.Version)
	if TooOld(s.MTA, s.Version) {
		return Snippet{}, fmt.Errorf("%w: Postfix %s does not know the attribute servername; 3.4 is the first that does", ErrUnfit, s.Version)
	}
	p.Queue = or(p.Queue, "/var/spool/postfix")
	where := "not chrooted"
	if p.Chrooted {
		where = "chrooted"
	}
	s.Notes = append(s.Notes, fmt.Sprintf("Postfix %s, smtp(8) %s. policyd is asked at %s.", s.Version, where, d.ask()))
	if d.unix() != "" {
		s.Notes = append(s.Notes, `The user postfix must be able to write to that socket: its group is postfix, or socket_mode = "0666".`)
	}
	if strings.HasPrefix(p.table(d), "proxy:") {
		s.Notes = append(s.Notes, "proxymap(8), which is not chrooted, asks for smtp(8). By default it may; a proxy_read_maps of yours must have $smtp_tls_policy_maps.")
	}
	name := "postfix"
	if !v.before(3, 10, 0) {
		name = "postfix-tlsrpt"
	}
	main := Part{File: mainCF, Where: "each in the place of a line with the same name", comment: "#", Lines: p.policies(d, v, p.table(d)+name)}
	if d.Implicit.On {
		main.Lines = append(main.Lines, Line{Text: "transport_maps = " + beside(p.TransportMaps, p.table(d)+"transport")})
		s.Parts = append(s.Parts, main, part(masterCF, "at its end", "#", p.service(d)...))
		return s, nil
	}
	s.Parts = append(s.Parts, main)
	return s, nil
}

// policies are the lines for main.cf about TLS policies.
func (p Postfix) policies(d Daemon, v version, table string) []Line {
	lines := []Line{{Text: "smtp_tls_policy_maps = " + beside(p.PolicyMaps, table)}, {Text: "smtp_dns_support_level = dnssec"}}
	if v.before(3, 6, 0) || p.Digest != "" && p.Digest != "sha256" || d.Fingerprints && p.Digest == "" {
		lines = append(lines, Line{Text: "smtp_tls_fingerprint_digest = sha256"})
	}
	if ignoresDANE(v) {
		lines = append(lines, Line{Text: "smtp_tls_dane_insecure_mx_policy = dane"})
	}
	switch p.Level {
	case "", "none":
		lines = append(lines, Line{Text: "smtp_tls_security_level = may"})
	default:
		lines = append(lines, Line{Why: fmt.Sprintf("smtp_tls_security_level = %s stays: it holds for domains without a policy.", p.Level)})
	}
	// The other spelling does what it says only from 3.6 on (RFC 8461 §7 wants 1.2).
	protocols := ">=TLSv1.2"
	if v.before(3, 6, 0) {
		protocols = "!SSLv2, !SSLv3, !TLSv1, !TLSv1.1"
	}
	lines = append(lines, Line{Text: "smtp_tls_CAfile = " + d.CAFile}, Line{Text: "smtp_tls_mandatory_protocols = " + protocols}, Line{Text: "smtp_tls_loglevel = 1"})
	if !v.before(3, 10, 0) {
		lines = append(lines, Line{
			Why:  "Where something collects TLSRPT reports (RFC 8460), without the \"#\"; the socket is relative to the queue directory:",
			Text: "#smtp_tlsrpt_enable = yes\n#smtp_tlsrpt_socket_name = run/tlsrpt/tlsrpt-collector.sock",
		})
	}
	return lines
}

// ignoresDANE reports whether a release ignores DANE behind unsigned MX records unless
// smtp_tls_dane_insecure_mx_policy is set: before 3.6.17, 3.7.13, 3.8.8 and 3.9.2.
func ignoresDANE(v version) bool {
	mended := map[int]int{6: 17, 7: 13, 8: 8, 9: 2}
	if v[0] != 3 || v[1] < 6 {
		return v.before(3, 6, 0)
	}
	patch, affected := mended[v[1]]
	return affected && v[2] < patch
}

// table is the way to policyd up to the name of a map.
func (p Postfix) table(d Daemon) string {
	path := d.unix()
	if path == "" {
		return "socketmap:" + d.ask().String() + ":"
	}
	// A path without a slash in front is relative to the queue directory for Postfix's
	// daemons, chrooted or not.
	if inside, err := filepath.Rel(p.Queue, path); err == nil && filepath.IsLocal(inside) {
		return "socketmap:unix:" + inside + ":"
	}
	if p.Chrooted {
		return "proxy:socketmap:unix:" + path + ":" // proxymap(8) is not chrooted
	}
	return "socketmap:unix:" + path + ":"
}

// beside is a list of tables with one at its end. One of policyd's that was there goes.
func beside(tables, table string) string {
	depth := 0
	kept := strings.FieldsFunc(tables, func(r rune) bool {
		switch r {
		case '{':
			depth++
		case '}':
			depth--
		}
		return depth == 0 && (r == ',' || unicode.IsSpace(r))
	})
	kept = slices.DeleteFunc(kept, ours)
	return strings.Join(append(kept, table), ", ")
}

// ours reports whether a table is one of policyd's, or of a daemon in whose place it
// stands.
func ours(table string) bool {
	if !strings.HasPrefix(strings.TrimPrefix(table, "proxy:"), "socketmap:") {
		return false
	}
	name := table[strings.LastIndexByte(table, ':')+1:]
	switch name {
	case "postfix", "postfix-tlsrpt", "QUERY", "query", "QUERYwithTLSRPT", "transport":
		return true
	}
	return false
}

// service is the transport for TLS from the first octet on, in master.cf.
func (p Postfix) service(d Daemon) []string {
	chroot := "n"
	if p.Chrooted {
		chroot = "y"
	}
	return append([]string{fmt.Sprintf("%-9s unix  -       -       %s       -       -       smtp", d.Implicit.Transport, chroot)}, options(d.Implicit.Transport)...)
}

// options are those of that transport: without a fallback relay, which would be spoken
// to by TLS from the first octet on.
func options(name string) []string {
	return []string{"  -o syslog_name=postfix/" + name, "  -o smtp_tls_wrappermode=yes", "  -o smtp_tls_security_level=encrypt", "  -o smtp_fallback_relay="}
}

// Commands is a snippet for Postfix as a shell script that changes main.cf and master.cf
// by postconf(1), and reloads. For others it is "".
func (s Snippet) Commands() string {
	if s.MTA != "postfix" {
		return ""
	}
	var b strings.Builder
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "# %s\n", note)
	}
	for _, p := range s.Parts {
		if p.File == masterCF {
			words := strings.Fields(strings.Join(texts(p), " "))
			fmt.Fprintf(&b, "postconf -M %s/unix=%s\n", words[0], quote(strings.Join(words, " ")))
			continue
		}
		for _, l := range p.Lines {
			if l.Text == "" || strings.HasPrefix(l.Text, "#") {
				if l.Why != "" && l.Text == "" {
					fmt.Fprintf(&b, "# %s\n", l.Why)
				}
				continue
			}
			fmt.Fprintf(&b, "postconf -e %s\n", quote(l.Text))
		}
	}
	for _, command := range s.Then {
		b.WriteString(command + "\n")
	}
	return b.String()
}

// texts are the settings of a part.
func texts(p Part) []string {
	var all []string
	for _, l := range p.Lines {
		all = append(all, l.Text)
	}
	return all
}

// quote makes one word of a text for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
