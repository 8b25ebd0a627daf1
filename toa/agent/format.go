package agent

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Format is a TCP option that carries an address: its kind and its length with kind and length
// bytes. Length 8 is a port and an IPv4 address, length 20 a port and an IPv6 address.
type Format struct {
	Kind, Length uint8

	// First says that the balancer is known to write it before all other options. Otherwise it
	// is certain only as the last one, where no option of the client's can hide another.
	First bool
}

// String returns the form that ParseFormats takes: "254/8", or "254/8/first".
func (f Format) String() string {
	s := fmt.Sprintf("%d/%d", f.Kind, f.Length)
	if f.First {
		s += first
	}
	return s
}

const first = "/first"

// maxFormats is how many Formats can be read at once.
const maxFormats = 16

const lengthIPv4, lengthIPv6 = 8, 20

// balancers are the Formats that are known by the name of who writes them. That it is the first is
// known from the source of LVS, Alibaba's, and of DPVS.
var balancers = map[string][]Format{
	"lvs":     {{254, lengthIPv4, true}},
	"alibaba": {{254, lengthIPv4, true}},
	"dpvs":    {{254, lengthIPv4, true}, {254, lengthIPv6, true}},
	"huawei":  {{254, lengthIPv4, false}, {253, lengthIPv6, false}},
	"tencent": {{200, lengthIPv4, false}},
}

// Balancers returns the names that ParseFormats knows, in alphabetical order.
func Balancers() []string { return slices.Sorted(maps.Keys(balancers)) }

// ParseFormats reads a list as a configuration file has it, separated by commas: names of
// [Balancers] and Formats in numbers, "lvs,253/20". What is there twice counts once, and is First
// only if it is that each time.
func ParseFormats(list string) ([]Format, error) {
	var formats []Format
	for item := range strings.SplitSeq(list, ",") {
		item = strings.ToLower(strings.TrimSpace(item))
		read, ok := balancers[item]
		if !ok {
			f, err := parseFormat(item)
			if err != nil {
				return nil, err
			}
			read = []Format{f}
		}
		for _, f := range read {
			same := func(g Format) bool { return g.Kind == f.Kind && g.Length == f.Length }
			if i := slices.IndexFunc(formats, same); i >= 0 {
				formats[i].First = formats[i].First && f.First
			} else {
				formats = append(formats, f)
			}
		}
	}
	return formats, checkFormats(formats)
}

func parseFormat(item string) (Format, error) {
	numbers, isFirst := strings.CutSuffix(item, first)
	kind, length, found := strings.Cut(numbers, "/")
	k, errKind := strconv.ParseUint(kind, 10, 8)
	l, errLength := strconv.ParseUint(length, 10, 8)
	if !found || errKind != nil || errLength != nil {
		return Format{}, fmt.Errorf("%q is neither a balancer (%s) nor an option's kind/length, "+
			"such as 254/8 or 254/8/first", item, strings.Join(Balancers(), ", "))
	}
	return Format{uint8(k), uint8(l), isFirst}, nil
}

// checkFormats says which Format can't be read.
func checkFormats(formats []Format) error {
	if len(formats) == 0 || len(formats) > maxFormats {
		return fmt.Errorf("%d formats: expected 1 to %d", len(formats), maxFormats)
	}
	for _, f := range formats {
		switch {
		case f.Length != lengthIPv4 && f.Length != lengthIPv6:
			return fmt.Errorf("format %v: an option with an IPv4 address has length %d, "+
				"one with an IPv6 address %d", f, lengthIPv4, lengthIPv6)
		case f.Kind <= 8 || f.Kind == 19 || f.Kind == 29 || f.Kind == 30 || f.Kind == 34:
			return fmt.Errorf("format %v: kind %d is one of TCP's own options", f, f.Kind)
		}
	}
	return nil
}
