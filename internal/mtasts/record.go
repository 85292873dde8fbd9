package mtasts

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoRecord: no TXT string begins with the version of MTA-STS. No policy
	// is discovered; a cached policy that has not expired still applies.
	ErrNoRecord = errors.New("mtasts: no record")
	// ErrMultipleRecords: more than one record claims to be the one, which
	// counts as none (RFC 8461 §3.1). A cached policy still applies.
	ErrMultipleRecords = errors.New("mtasts: more than one record")
	// ErrBadRecord: the only record breaks the grammar, which counts as none
	// (RFC 8461 §3.1). A cached policy still applies.
	ErrBadRecord = errors.New("mtasts: malformed record")
)

const (
	recordVersion = "v=STSv1"
	maxID         = 32
	maxFieldName  = 32
)

// Record is a domain's MTA-STS TXT record.
type Record struct {
	// ID is the policy's identifier: 1 to 32 letters and digits. It is compared
	// for equality only: there is no order between two of them (RFC 8461 §3.1).
	ID string
}

// ParseRecord reads the TXT records at _mta-sts.<domain>, each given as one
// string: the strings of one record are joined without spaces by the caller (RFC 8461
// §3.1). Records that do not begin with the version are discarded first. Errors
// wrap ErrNoRecord, ErrMultipleRecords or ErrBadRecord.
func ParseRecord(txts []string) (Record, error) {
	fields, found := "", 0
	for _, txt := range txts {
		if rest, ok := afterVersion(txt); ok {
			fields = rest
			found++
		}
	}
	switch found {
	case 0:
		return Record{}, ErrNoRecord
	case 1:
		return parseFields(fields)
	}
	return Record{}, fmt.Errorf("%w: %d", ErrMultipleRecords, found)
}

// afterVersion returns what follows the version and its delimiter. The prose of RFC
// 8461 §3.1 wants the semicolon at once, its grammar allows white space before
// it; the grammar is followed, since a record refused is a policy not enforced.
func afterVersion(txt string) (string, bool) {
	rest, ok := strings.CutPrefix(txt, recordVersion)
	if !ok {
		return "", false
	}
	return strings.CutPrefix(strings.TrimLeft(rest, " \t"), ";")
}

// parseFields reads name=value pairs between semicolons. The order of fields
// is free, unknown ones are ignored once they are well-formed, and of two ids the
// first wins (RFC 8461 §3.1, §3.2).
func parseFields(rest string) (Record, error) {
	var rec Record
	for more := true; more; {
		var field string
		field, rest, more = strings.Cut(rest, ";")
		field = strings.TrimLeft(field, " \t")
		if more {
			field = strings.TrimRight(field, " \t")
		}
		if field == "" && !more {
			// The optional delimiter at the end.
			break
		}
		name, value, _ := strings.Cut(field, "=")
		if !isFieldName(name) || !isFieldValue(value) {
			return Record{}, fmt.Errorf("%w: field %s", ErrBadRecord, quote(field))
		}
		if name != "id" || rec.ID != "" {
			continue
		}
		if !isID(value) {
			return Record{}, fmt.Errorf("%w: id %s is not 1 to %d letters and digits", ErrBadRecord, quote(value), maxID)
		}
		rec.ID = value
	}
	if rec.ID == "" {
		return Record{}, fmt.Errorf("%w: it has no id", ErrBadRecord)
	}
	return rec, nil
}

func isID(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

// isFieldName is the grammar of field names in records and policies: a letter or
// digit, then at most 31 of letters, digits and "_-.".
func isFieldName(s string) bool {
	if s == "" || len(s) > maxFieldName || !isAlnum(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '_' && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}

// isFieldValue is the grammar of a TXT field's value: visible US-ASCII without
// "=" and ";".
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '=' || c == ';' {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// quote makes a remote string fit for a log line: escaped, and cut to 80 octets.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
