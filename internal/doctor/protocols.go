package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// versions are the protocols that Postfix knows by name, the lowest first.
func versions() []string {
	return []string{"SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}
}

// errProtocol: a word means nothing to Postfix, or something that is not known here.
var errProtocol = errors.New("unknown protocol")

// protocols reads a list of TLS protocols as Postfix does (postconf(5),
// smtp_tls_mandatory_protocols) and returns those it allows, of those that it knows by
// name; SSLv2 is never one, since no TLS library has it that Postfix 3.4 or later runs
// with. From 3.6 on a list has bounds, ">=TLSv1.2"; before, exclusions, "!SSLv3", or
// names of those that are allowed. An empty list allows all.
func protocols(list string) ([]string, error) {
	all := versions()
	allowed := make([]bool, len(all))
	named := false
	least, most := 0, len(all)-1
	excluded := make([]bool, len(all))
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" \t,:", r) }) {
		name := strings.TrimLeft(word, "<>=!")
		n := slices.IndexFunc(all, func(v string) bool { return strings.EqualFold(v, name) })
		if n < 0 {
			return nil, fmt.Errorf("%w %.40q", errProtocol, word)
		}
		switch word[:len(word)-len(name)] {
		case ">=":
			least = n
		case "<=":
			most = n
		case "!":
			excluded[n] = true
		case "":
			allowed[n], named = true, true
		default:
			return nil, fmt.Errorf("%w %.40q", errProtocol, word)
		}
	}
	var result []string
	for n, name := range all {
		if name != "SSLv2" && n >= least && n <= most && !excluded[n] && (!named || allowed[n]) {
			result = append(result, name)
		}
	}
	return result, nil
}
