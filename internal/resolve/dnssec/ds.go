package dnssec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// delegationSigner is a DS record (RFC 4034 §5.1): the digest of a key of the child.
type delegationSigner struct {
	tag       uint16
	algorithm uint8
	kind      uint8
	digest    []byte
}

// readDS decodes a DS record's data; one that is too short matches nothing.
func readDS(rdata []byte) delegationSigner {
	if len(rdata) < 4 {
		return delegationSigner{}
	}
	return delegationSigner{tag: binary.BigEndian.Uint16(rdata), algorithm: rdata[2], kind: rdata[3], digest: rdata[4:]}
}

// usable returns the DS records of a supported algorithm and digest. Where there are
// none, the child is insecure (RFC 4035 §5.2): its owner chose what cannot be checked
// here. Digests of SHA-1 are ignored beside others (RFC 4509 §3).
func (s *suite) usable(all []delegationSigner) []delegationSigner {
	var good []delegationSigner
	strong := false
	for _, ds := range all {
		if s.supports(ds.algorithm) && digestSupported(ds.kind) {
			good = append(good, ds)
			strong = strong || ds.kind != dns.SHA1
		}
	}
	if strong {
		good = slices.DeleteFunc(good, func(ds delegationSigner) bool { return ds.kind == dns.SHA1 })
	}
	return good
}

// matches reports whether the DS is the digest of a zone's key (RFC 4034 §5.1.4).
func (ds *delegationSigner) matches(zone name, k *key) bool {
	sum, ok := digest(ds.kind, append([]byte(zone), k.rdata...))
	return ok && ds.tag == k.tag && ds.algorithm == k.algorithm && bytes.Equal(sum, ds.digest)
}

// tagsOf lists DS records for people, the first few.
func tagsOf(all []delegationSigner) string {
	var list []string
	for _, ds := range all {
		if len(list) == 4 {
			list = append(list, "...")
			break
		}
		list = append(list, fmt.Sprintf("%d/%s", ds.tag, algorithmName(ds.algorithm)))
	}
	return strings.Join(slices.Compact(list), ", ")
}
