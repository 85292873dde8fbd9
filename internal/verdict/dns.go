package verdict

// MX is one MX record (RFC 5321 §5.1). Host is in lower case without a trailing
// dot; the empty Host is the root, which alone in its set means that the domain
// takes no mail (RFC 7505 §3).
type MX struct {
	Preference uint16
	Host       string
}
