package milterd

import (
	"fmt"
	"mime"
	"net/textproto"
	"slices"
	"strings"
)

// Level is how well mail is protected on its way to the next hop, at the worst of
// its hosts. The zero value is not at all.
type Level uint8

const (
	// Clear: mail may go in clear text.
	Clear Level = iota
	// Encrypted: TLS is mandatory, the server is not authenticated.
	Encrypted
	// Authenticated: TLS is mandatory, and the server proves who it is.
	Authenticated
	// ByDANE: the same, by TLSA records (RFC 7672) at every host.
	ByDANE
)

// String is the level's word in milter.toml; "none" for Clear.
func (l Level) String() string {
	switch l {
	case Clear:
		return "none"
	case Encrypted:
		return "encrypted"
	case Authenticated:
		return "authenticated"
	case ByDANE:
		return "dane"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// Action is what happens to a recipient, or to a message, whose next hop is
// protected less than it must be. Actions are ordered by how much they prevent.
type Action uint8

const (
	// Pass: nothing happens.
	Pass Action = iota
	// Annotate: a header says so.
	Annotate
	// Hold: the message is accepted and kept back in the MTA's queue.
	Hold
	// Tempfail: the sender is told to try again.
	Tempfail
	// Reject: the sender is told why, for good.
	Reject
)

// String is the action's word in milter.toml; "pass" for Pass.
func (a Action) String() string {
	switch a {
	case Pass:
		return "pass"
	case Annotate:
		return "annotate"
	case Hold:
		return "hold"
	case Tempfail:
		return "tempfail"
	case Reject:
		return "reject"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Login says which clients a rule is for.
type Login uint8

const (
	// AnyLogin: all.
	AnyLogin Login = iota
	// LoggedIn: those that authenticated with SMTP AUTH.
	LoggedIn
	// NotLoggedIn: the others.
	NotLoggedIn
)

// Rule is one [[require]]. All of its conditions must hold. The zero value, of
// which the patterns match nothing, is for nobody.
type Rule struct {
	// Line is where it stands in the file, for the log.
	Line              int
	Sender, Recipient Pattern
	Login             Login
	// User is the login name that the client must have; * stands for any letters, and
	// capitals do not matter. Empty: any.
	User string
	// HeaderName and HeaderValue are a header that the message must have; in the
	// value * stands for any letters. Empty: none.
	HeaderName, HeaderValue string
	// SubjectTag is a text that the subject must hold. Empty: none.
	SubjectTag string
	Minimum    Level
	Action     Action
}

// Rules are tried in their order; the first that matches decides.
type Rules []Rule

// Message is what rules look at. The zero value is a message of which nothing is
// known yet.
type Message struct {
	// Sender is the envelope sender without angle brackets; empty is the null one.
	Sender string
	// Authenticated says that the client logged in (SMTP AUTH), as User where the MTA
	// tells.
	Authenticated bool
	User          string
	// RequireTLS says that MAIL FROM had the REQUIRETLS parameter (RFC 8689 §4.1).
	RequireTLS bool
	// Complete says that all headers have been seen.
	Complete bool

	// tlsRequired counts the TLS-Required fields, optional those that say "No".
	tlsRequired, optional int
	// seen are the rules whose header, and tagged those whose subject tag, was found.
	seen, tagged map[int]bool
}

// DemandsTLS reports whether the message must not go on without TLS to a server that
// proves who it is. Bounces are excepted although they may have the parameter: the
// conditions are for mail with a return path (RFC 8689 §4.2.1), and a bounce should
// not be lost for them (RFC 8689 §5).
func (m *Message) DemandsTLS() bool { return m.RequireTLS && m.Sender != "" }

// TLSOptional reports whether the sender asked for delivery whatever the protection:
// exactly one TLS-Required field that says "No" (RFC 8689 §3). REQUIRETLS makes the
// field mean nothing (RFC 8689 §4.1).
func (m *Message) TLSOptional() bool {
	return m.Complete && m.tlsRequired == 1 && m.optional == 1 && !m.RequireTLS
}

// See takes one header field into account. Nothing of it is kept but what it means
// to the rules, so that its length does not matter.
func (rs Rules) See(m *Message, name, value string) {
	required, isSubject := strings.EqualFold(name, "TLS-Required"), strings.EqualFold(name, "Subject")
	wanted := slices.ContainsFunc(rs, func(r Rule) bool { return strings.EqualFold(name, r.HeaderName) })
	if !required && !isSubject && !wanted {
		return
	}
	value = unfold(value)
	if required {
		m.tlsRequired++
		if strings.EqualFold(value, "No") {
			m.optional++
		}
	}
	subject := ""
	if isSubject {
		subject = decode(value)
	}
	for i := range rs {
		r := &rs[i]
		if r.HeaderName != "" && strings.EqualFold(name, r.HeaderName) && glob(strings.ToLower(r.HeaderValue), strings.ToLower(value)) {
			if m.seen == nil {
				m.seen = make(map[int]bool)
			}
			m.seen[i] = true
		}
		if r.SubjectTag != "" && subject != "" && containsFold(subject, r.SubjectTag) {
			if m.tagged == nil {
				m.tagged = make(map[int]bool)
			}
			m.tagged[i] = true
		}
	}
}

// unfold writes a header value in one line (RFC 5322 §2.2.3).
func unfold(value string) string {
	value = strings.ReplaceAll(strings.ReplaceAll(value, "\r", ""), "\n", "")
	return textproto.TrimString(value)
}

// decode reads encoded words (RFC 2047); a subject that cannot be decoded is
// looked at as it stands.
func decode(subject string) string {
	if text, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
		return text
	}
	return subject
}

func containsFold(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

// Match finds the rule for a recipient of a message whose headers have all been seen;
// nil: none matches.
func (rs Rules) Match(m *Message, recipient string) *Rule {
	all := rs.May(m, recipient)
	return all[len(all)-1]
}

// May returns the rules that may be the one for a recipient, in their order. All but the
// last depend on headers that have not come yet; the last holds if none of those does,
// and is nil if none holds then.
func (rs Rules) May(m *Message, recipient string) []*Rule {
	var all []*Rule
	for i := range rs {
		r := &rs[i]
		if !r.Sender.Match(m.Sender) || !r.Recipient.Match(recipient) || !r.loginMatches(m) {
			continue
		}
		if r.HeaderName == "" || m.seen[i] {
			if r.SubjectTag == "" || m.tagged[i] {
				return append(all, r)
			}
		}
		if !m.Complete {
			all = append(all, r)
		}
	}
	return append(all, nil)
}

func (r *Rule) loginMatches(m *Message) bool {
	if r.User != "" && (!m.Authenticated || !glob(strings.ToLower(r.User), strings.ToLower(m.User))) {
		return false
	}
	switch r.Login {
	case AnyLogin:
		return true
	case LoggedIn:
		return m.Authenticated
	case NotLoggedIn:
		return !m.Authenticated
	}
	panic(fmt.Sprintf("milterd: login condition %d", r.Login))
}
