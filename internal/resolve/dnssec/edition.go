package dnssec

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// newestRootKey is the tag of the last of rootAnchors.
const newestRootKey = 38696

// Renewed adds the built-in anchors of the root where these are an older edition of the
// same list: one that has some of them, and not the newest. So a list that nobody
// renewed does no harm, and one that has dropped a key is not given it back. Anchors of
// another root, and those that are up to date, stay as they are. It does not change a.
func (a *Anchors) Renewed() *Anchors {
	built, older := BuiltIn().zones[root], false
	for _, ds := range built {
		if slices.ContainsFunc(a.zones[root], ds.equal) {
			older = true
		}
	}
	if !older || slices.ContainsFunc(a.zones[root], func(ds delegationSigner) bool { return ds.tag == newestRootKey }) {
		return a
	}
	renewed := &Anchors{zones: maps.Clone(a.zones)}
	for _, ds := range built {
		if !slices.ContainsFunc(renewed.zones[root], ds.equal) {
			renewed.zones[root] = append(slices.Clone(renewed.zones[root]), ds)
		}
	}
	return renewed
}

func (ds delegationSigner) equal(other delegationSigner) bool {
	return ds.tag == other.tag && ds.algorithm == other.algorithm && ds.kind == other.kind && bytes.Equal(ds.digest, other.digest)
}

// String lists the anchors as DS records, one a line, in a fixed order.
func (a *Anchors) String() string {
	return a.list(func(zone name, ds *delegationSigner) string {
		return fmt.Sprintf("%s IN DS %d %d %d %X\n", zone, ds.tag, ds.algorithm, ds.kind, ds.digest)
	})
}

// names lists them for people: "20326 8 2 (RSASHA256) of zone .".
func (a *Anchors) names() string {
	all := a.list(func(zone name, ds *delegationSigner) string {
		return fmt.Sprintf("%d %d %d (%s) of zone %s, ", ds.tag, ds.algorithm, ds.kind, algorithmName(ds.algorithm), zone)
	})
	return strings.TrimSuffix(all, ", ")
}

func (a *Anchors) list(write func(name, *delegationSigner) string) string {
	var lines []string
	for zone, list := range a.zones {
		for i := range list {
			lines = append(lines, write(zone, &list[i]))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
