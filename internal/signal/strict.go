package signal

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoRecord: nothing has the form of the signal. The domain or host asks
	// for nothing by it.
	ErrNoRecord = errors.New("signal: no record")
	// ErrSeveral: more than one record claims to be the one. None is believed,
	// since which of them holds cannot be known.
	ErrSeveral = errors.New("signal: more than one record")
	// ErrMalformed: the only record breaks the grammar. It is not believed.
	ErrMalformed = errors.New("signal: malformed record")
)

const (
	// TXTPrefix is what the name of the TXT record begins with: the rest is the
	// domain.
	TXTPrefix = "_smtp-strict."
	// DefaultRRType is the record type that is asked for unless the operator says
	// otherwise, LeastRRType and MostRRType the bounds of the range for private use
	// (RFC 6895 §3.1).
	DefaultRRType, LeastRRType, MostRRType uint16 = 65400, 65280, 65534

	version      = "v=SMTPSTRICT1"
	maxFieldName = 32
)

// Auth is how the host's certificate is to be checked. The zero value asks for nothing.
type Auth uint8

const (
	// NoAuth: any certificate will do.
	NoAuth Auth = iota
	// WebPKI: a certificate of a public CA, for one of the MX names.
	WebPKI
)

// Strict is what a TXT record, or a record of the type, asks for: TLS, always.
type Strict struct {
	Auth Auth
	// Unknown is a value of "auth" that this version does not know, fit for a log
	// line; Auth is then NoAuth. Empty otherwise.
	Unknown string
}

// String writes the fields as a record has them.
func (s Strict) String() string {
	switch {
	case s.Auth == WebPKI:
		return "tls=required; auth=webpki"
	case s.Unknown != "":
		return "tls=required; auth=" + s.Unknown + " is not known here"
	}
	return "tls=required"
}

// ParseTXT reads the TXT records at TXTPrefix and a domain, each as one string: the
// caller joins the strings of a record without spaces. Errors wrap ErrNoRecord,
// ErrSeveral or ErrMalformed.
func ParseTXT(records []string) (Strict, error) {
	fields, found := "", 0
	for _, text := range records {
		if rest, ok := afterVersion(text); ok {
			fields = rest
			found++
		}
	}
	switch found {
	case 0:
		return Strict{}, ErrNoRecord
	case 1:
		return parseFields(fields)
	}
	return Strict{}, fmt.Errorf("%w: %d", ErrSeveral, found)
}

// ParseRR reads the records of the type, each as the octets of its data. Data that is
// not made of character-strings is somebody else's: a number for private use may be in
// use for anything. Errors are those of ParseTXT.
func ParseRR(rdata []string) (Strict, error) {
	var texts []string
	for _, data := range rdata {
		if text, ok := Text(data); ok {
			texts = append(texts, text)
		}
	}
	return ParseTXT(texts)
}

// Text joins the character-strings (RFC 1035 §3.3.14) that the data of a record is made
// of; false if it is not.
func Text(rdata string) (string, bool) {
	if rdata == "" {
		return "", false
	}
	var text strings.Builder
	for rdata != "" {
		size := int(rdata[0])
		if len(rdata) < 1+size {
			return "", false
		}
		text.WriteString(rdata[1 : 1+size])
		rdata = rdata[1+size:]
	}
	return text.String(), true
}

// RData is the data of a record with this text, in strings of up to 255 octets: what
// Text reads.
func RData(text string) string {
	const most = 255
	var data strings.Builder
	for more := true; more; more = text != "" {
		n := min(len(text), most)
		data.WriteByte(byte(n))
		data.WriteString(text[:n])
		text = text[n:]
	}
	return data.String()
}

// afterVersion returns what follows the version and its semicolon.
func afterVersion(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, version)
	if !ok {
		return "", false
	}
	return strings.CutPrefix(strings.TrimLeft(rest, blanks), ";")
}

const blanks = " \t"

// parseFields reads what follows the version.
func parseFields(rest string) (Strict, error) {
	given := make(map[string]string)
	for field := range strings.SplitSeq(rest, ";") {
		if field = strings.Trim(field, blanks); field == "" {
			continue
		}
		name, value, _ := strings.Cut(field, "=")
		name, value = lower(strings.TrimRight(name, blanks)), lower(strings.TrimLeft(value, blanks))
		if !isName(name) || !isValue(value) {
			return Strict{}, fmt.Errorf("%w: field %s", ErrMalformed, quote(field))
		}
		if name != "tls" && name != "auth" {
			continue
		}
		if before, ok := given[name]; ok && before != value {
			return Strict{}, fmt.Errorf("%w: two values of %s", ErrMalformed, name)
		}
		given[name] = value
	}
	switch tls, ok := given["tls"]; {
	case !ok:
		return Strict{}, fmt.Errorf("%w: it has no tls=required", ErrMalformed)
	case tls != "required":
		return Strict{}, fmt.Errorf("%w: tls=%s, want tls=required", ErrMalformed, quote(tls))
	}
	switch auth := given["auth"]; auth {
	case "":
		return Strict{}, nil
	case "webpki":
		return Strict{Auth: WebPKI}, nil
	default:
		return Strict{Unknown: quote(auth)}, nil
	}
}

// isName is the rule of field names, in lower case.
func isName(s string) bool {
	if s == "" || len(s) > maxFieldName || !isLetter(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// isValue is the rule of field values.
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '=' || c == ';' {
			return false
		}
	}
	return s != ""
}

// lower lowers A to Z alone: other alphabets have letters whose lower case is ASCII.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// quote makes a remote text fit for a log line: escaped, and cut to 80 octets.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
