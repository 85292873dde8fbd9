package dnssec

import (
	"bytes"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// canonical fills in rdata (RFC 4034 §6.2, §6.3), once. Errors wrap errBudget where the
// means do not last, which says nothing of the set.
func (set *rrset) canonical(b *Budget) error {
	set.mu.Lock()
	defer set.mu.Unlock()
	if set.done {
		return set.err
	}
	if !b.work(set.toOrder()) {
		return errBudget
	}
	set.rdata, set.err = inOrder(set.rrs)
	set.done = true
	return set.err
}

// toOrder is the price of canonical form.
func (set *rrset) toOrder() time.Duration {
	octets := 0
	for _, rr := range set.rrs {
		octets += dns.Len(rr) - len(set.owner)
	}
	return times(len(set.rrs), workOrder) + times(octets, workOctet)
}

func inOrder(rrs []dns.RR) ([][]byte, error) {
	all := make([][]byte, 0, len(rrs))
	for _, rr := range rrs {
		rd, err := rdataOf(rr)
		if err != nil {
			return nil, err
		}
		all = append(all, rd)
	}
	slices.SortFunc(all, bytes.Compare)
	return slices.CompactFunc(all, bytes.Equal), nil
}

// rdataOf packs a record's data without compression. The library notes the size in the
// record, which others may be reading: a copy is packed.
func rdataOf(rr dns.RR) ([]byte, error) {
	rr = lowerNames(dns.Copy(rr))
	rr.Header().Name = "." // whose it is costs time and does not matter
	buf := make([]byte, dns.Len(rr)+maxName)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	const start = 1 + 10 // owner, type, class, TTL, length
	if start > end {
		return nil, errName
	}
	return buf[start:end:end], nil
}

// lowerNames changes the names in a record's data to lower case and returns it.
func lowerNames(rr dns.RR) dns.RR {
	for _, s := range namesIn(rr) {
		*s = dns.CanonicalName(*s)
	}
	return rr
}

// namesIn returns the names in a record's data, for the types that RFC 4034 §6.2 lists,
// as RFC 6840 §5.1 corrects it.
func namesIn(rr dns.RR) []*string {
	switch rr := rr.(type) {
	case *dns.NS:
		return []*string{&rr.Ns}
	case *dns.MD:
		return []*string{&rr.Md}
	case *dns.MF:
		return []*string{&rr.Mf}
	case *dns.CNAME:
		return []*string{&rr.Target}
	case *dns.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *dns.MB:
		return []*string{&rr.Mb}
	case *dns.MG:
		return []*string{&rr.Mg}
	case *dns.MR:
		return []*string{&rr.Mr}
	case *dns.PTR:
		return []*string{&rr.Ptr}
	case *dns.MINFO:
		return []*string{&rr.Rmail, &rr.Email}
	case *dns.MX:
		return []*string{&rr.Mx}
	case *dns.RP:
		return []*string{&rr.Mbox, &rr.Txt}
	case *dns.AFSDB:
		return []*string{&rr.Hostname}
	case *dns.RT:
		return []*string{&rr.Host}
	case *dns.PX:
		return []*string{&rr.Map822, &rr.Mapx400}
	case *dns.NAPTR:
		return []*string{&rr.Replacement}
	case *dns.KX:
		return []*string{&rr.Exchanger}
	case *dns.SRV:
		return []*string{&rr.Target}
	case *dns.DNAME:
		return []*string{&rr.Target}
	}
	return nil
}
