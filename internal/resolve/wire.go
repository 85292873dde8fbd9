package resolve

import (
	"crypto/rand"
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

const (
	headerSize = 12
	// ednsSize is the largest UDP reply asked for: it passes every path
	// unfragmented, and fragments can be forged.
	ednsSize = 1232
	// packetRoom lets a reply that is larger than asked for be told from one
	// that just fits.
	packetRoom = ednsSize + 1

	bitQR     = 0x80 // header octet 2
	bitTC     = 0x02
	bitRD     = 0x01
	bitAD     = 0x20 // header octet 3
	bitCD     = 0x10
	maskQuery = 0x78 // opcode, header octet 2

	flagDO = 0x8000 // of EDNS
)

// question is what is asked. Name is in lower case and fully qualified, in the form
// of a zone file; those that this program makes itself are of letters, digits, hyphens
// and underscores only, or the root.
type question struct {
	name   string
	rrtype uint16
	class  uint16
}

func (q question) String() string {
	return strings.TrimSuffix(q.name, ".") + " " + dns.Type(q.rrtype).String()
}

// newQuestion asks for a name of kind hostish.
func newQuestion(name string, rrtype uint16) question {
	return question{lower(strings.TrimSuffix(name, ".")) + ".", rrtype, dns.ClassINET}
}

// kind is what a name can be.
type kind uint8

const (
	// nameless: the root, or no name at all.
	nameless kind = iota
	// impossible: no zone can have it.
	impossible
	// foreign: a zone can have it, but no host is called so.
	foreign
	// hostish: the name of a host, or of a service of one.
	hostish
)

// kindOf reads a name as it is written here, with \DDD for what no host name has. In
// the DNS it has labels of 1 to 63 octets, 255 octets in all with their lengths
// (RFC 1035 §2.3.4). That of a host has A-labels of letters, digits and hyphens, or
// underscores as in RFC 8552.
func kindOf(name string) kind {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return nameless
	}
	k, label, size := hostish, 0, 2
	for i := 0; i < len(name) && size <= 255; i++ {
		size++
		if name[i] == '.' {
			if label == 0 {
				return impossible
			}
			label = 0
			continue
		}
		if !hostOctet(name[i]) {
			k = foreign
		}
		if name[i] == '\\' {
			_, i = escaped(name, i)
		}
		if label++; label > 63 {
			return impossible
		}
	}
	if label == 0 || size > 255 {
		return impossible
	}
	return k
}

func hostOctet(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// query packs a question: RD, the bits of the scheme and EDNS (RFC 6891), with a
// random ID. It ends in an OPT record of 11 octets.
func (q question) query(bits queryBits) []byte {
	b := make([]byte, headerSize, headerSize+len(q.name)+1+4+optSize)
	_, _ = rand.Read(b[:2]) // it never fails: the Go runtime ends the program first
	b[2] = bitRD
	b[3] = bits.header
	b[5] = 1  // QDCOUNT
	b[11] = 1 // ARCOUNT
	b = appendName(b, q.name)
	b = binary.BigEndian.AppendUint16(b, q.rrtype)
	b = binary.BigEndian.AppendUint16(b, q.class)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, dns.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, ednsSize)
	b = append(b, 0, 0) // extended rcode, version
	b = binary.BigEndian.AppendUint16(b, bits.edns)
	return append(b, 0, 0)
}

// appendName writes a name that a zone can have as it is on the wire (RFC 1035 §3.1).
func appendName(b []byte, name string) []byte {
	size := len(b)
	b = append(b, 0)
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '.' {
			if b[size] > 0 { // else it is the root, which is a dot alone
				size = len(b)
				b = append(b, 0)
			}
			continue
		}
		if c == '\\' {
			c, i = escaped(name, i)
		}
		b = append(b, c)
		b[size]++
	}
	return b
}

const optSize = 11

// queryBits are what a scheme sets in its queries: octet 3 of the header (AD,
// CD) and the flags of EDNS (DO).
type queryBits struct {
	header byte
	edns   uint16
}

// answers reports whether a packet is the reply to this query: QR, a QUERY, the
// same ID, and the same single question (RFC 5452 §9.1). The name's case is left
// to the server. Anything else is noise or an attack, and says nothing.
func answers(query, packet []byte) bool {
	end := len(query) - optSize
	if len(packet) < end || packet[2]&bitQR == 0 || packet[2]&maskQuery != 0 {
		return false
	}
	if packet[0] != query[0] || packet[1] != query[1] || packet[4] != 0 || packet[5] != 1 {
		return false
	}
	for i := headerSize; i < end-4; i++ {
		// Length octets are below 64 and hence no letters.
		if lowerOctet(packet[i]) != lowerOctet(query[i]) {
			return false
		}
	}
	return string(packet[end-4:end]) == string(query[end-4:end])
}

func truncated(packet []byte) bool {
	return packet[2]&bitTC != 0 || len(packet) > ednsSize
}

func lowerOctet(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lower folds ASCII letters only (RFC 4343 §3).
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				b[j] = lowerOctet(b[j])
			}
			return string(b)
		}
	}
	return s
}
