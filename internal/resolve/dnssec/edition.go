package dnssec

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Join adds the anchors of another edition of the same list: where both name one key
// of a zone alike, the result has those of both, else it is a alone. Neither changes.
func (a *Anchors) Join(other *Anchors) *Anchors {
	joined := &Anchors{zones: maps.Clone(a.zones)}
	related := false
	for zone, list := range other.zones {
		for _, ds := range list {
			related = related || slices.ContainsFunc(a.zones[zone], ds.equal)
		}
	}
	if !related {
		return joined
	}
	for zone, list := range other.zones {
		all := slices.Clone(joined.zones[zone])
		for _, ds := range list {
			if !slices.ContainsFunc(all, ds.equal) {
				all = append(all, ds)
			}
		}
		joined.zones[zone] = all
	}
	return joined
}

func (ds delegationSigner) equal(other delegationSigner) bool {
	return ds.tag == other.tag && ds.algorithm == other.algorithm && ds.kind == other.kind && bytes.Equal(ds.digest, other.digest)
}

// String lists the anchors as DS records, in a fixed order.
func (a *Anchors) String() string {
	var lines []string
	for zone, list := range a.zones {
		for _, ds := range list {
			lines = append(lines, fmt.Sprintf("%s IN DS %d %d %d %X\n", zone, ds.tag, ds.algorithm, ds.kind, ds.digest))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
