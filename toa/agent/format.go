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
}

// String returns the kind and the length in the form that ParseFormats takes: "254/8".
func (f Format) String() string { return fmt.Sprintf("%d/%d", f.Kind, f.Length) }

// maxFormats is how many Formats can be read at once.
const maxFormats = 16

const lengthIPv4, lengthIPv6 = 8, 20

// balancers are the Formats that are known by the name of who writes them.
var balancers = map[string][]Format{
	"lvs":     {{254, lengthIPv4}},
	"alibaba": {{254, lengthIPv4}},
	"dpvs":    {{254, lengthIPv4}, {254, lengthIPv6}},
	"huawei":  {{254, lengthIPv4}, {253, lengthIPv6}},
	"tencent": {{200, lengthIPv4}},
}

// Balancers returns the names that ParseFormats knows, in alphabetical order.
func Balancers() []string { return slices.Sorted(maps.Keys(balancers)) }

// ParseFormats reads a list as a configuration file has it, separated by commas: names of
// [Balancers] and Formats in numbers, "lvs,253/20". What is there twice counts once.
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
			if !slices.Contains(formats, f) {
				formats = append(formats, f)
			}
		}
	}
	return formats, checkFormats(formats)
}

func parseFormat(item string) (Format, error) {
	kind, length, found := strings.Cut(item, "/")
	k, errKind := strconv.ParseUint(kind, 10, 8)
	l, errLength := strconv.ParseUint(length, 10, 8)
	if !found || errKind != nil || errLength != nil {
		return Format{}, fmt.Errorf("%q is neither a balancer (%s) nor an option's kind/length, "+
			"such as 254/8", item, strings.Join(Balancers(), ", "))
	}
	return Format{uint8(k), uint8(l)}, nil
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
