package clientip

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// A fieldGenerator makes fields as the grammars of X-Forwarded-For and Forwarded have them, and
// damages a third of them.
type fieldGenerator struct {
	*rand.Rand
	field, spare []byte
}

// next returns a field whose lines are separated by newlines; mostly in the format of the one with
// this name.
func (g *fieldGenerator) next(name string) string {
	g.field = g.field[:0]
	if g.IntN(8) == 0 {
		g.write(pick(g, fieldSeeds))
	} else {
		forwarded := (name == fieldForwarded) == (g.IntN(16) > 0)
		elements := g.IntN(7)
		if formatOf(name) == formatSingle && g.IntN(8) > 0 {
			elements = 1
		}
		for i := range elements {
			if i > 0 {
				g.write(pick(g, generatedSeparators))
			}
			if forwarded {
				g.pairs()
			} else {
				g.write(g.node())
			}
		}
	}
	if g.IntN(3) == 0 {
		for range 1 + g.IntN(4) {
			g.damage()
		}
	}
	return string(g.field[:min(len(g.field), maxFuzzField)])
}

func (g *fieldGenerator) write(s string) { g.field = append(g.field, s...) }

// pairs writes an element of Forwarded.
func (g *fieldGenerator) pairs() {
	for i := range 1 + g.IntN(3) {
		if i > 0 {
			g.write(pick(g, generatedSemicolons))
		}
		name, value := "for", g.node()
		if i > 0 || g.IntN(8) == 0 {
			name, value = pick(g, generatedNames), pick(g, generatedValues)
		}
		g.write(name)
		g.write("=")
		quotes := g.IntN(3)
		if quotes == 0 {
			g.write(value)
			continue
		}
		g.write(`"`)
		for i := range len(value) {
			if c := value[i]; c == '"' || c == '\\' || quotes == 2 && g.IntN(8) == 0 {
				g.write(`\`)
			}
			g.field = append(g.field, value[i])
		}
		g.write(`"`)
	}
}

// damage changes a byte or some.
func (g *fieldGenerator) damage() {
	at := g.IntN(len(g.field) + 1)
	end := at + g.IntN(min(len(g.field)-at, 12)+1)
	part := append(g.spare[:0], g.field[at:end]...)
	g.spare = part
	switch g.IntN(4) {
	case 0: // remove a part
		g.field = append(g.field[:at], g.field[end:]...)
	case 1: // copy a part to another place
		g.insert(g.IntN(len(g.field)+1), part)
	case 2: // put a byte that matters into the field
		g.insert(at, append(part[:0], generatedBytes[g.IntN(len(generatedBytes))]))
	case 3: // put any byte in another's place
		if at < len(g.field) {
			g.field[at] = byte(g.Uint32())
		}
	}
}

func (g *fieldGenerator) insert(at int, part []byte) {
	n := len(g.field)
	g.field = append(g.field, part...)
	copy(g.field[at+len(part):], g.field[at:n])
	copy(g.field[at:], part)
}

func pick(g *fieldGenerator, all []string) string { return all[g.IntN(len(all))] }

const generatedBytes = ",;=\"\\[]:.% \t\n_-0129afFx\x00\x7f\xff"

var (
	generatedSeparators = []string{
		", ", ", ", ", ", ", ", ",", ",", ",", ",", " ,\t", ",,", "\n", "\n", "\n, ", " ", ";",
	}
	generatedSemicolons = []string{";", ";", ";", ";", "; ", " ;\t", ";;", ""}
	generatedNames      = []string{"For", "proto", "proto", "proto", "Proto", "by", "host", "x!"}
	generatedValues     = []string{
		"https", "https", "http", "HTTPS", "wss", "ws", "ftp", "a, b", `c;d="e"`, `\`, "",
	}
	generatedProxies = []string{
		"10.0.0.2", "10.0.0.3:80", "10.255.0.4", "::ffff:10.0.0.5", "2001:db8:1::2",
		"[2001:db8:1::3]:4711", "[2001:DB8:1::4]", "2001:db8:1:0:0:0:0:5", "10.0.0.6:65535",
		"10.0.0.7", "10.0.0.8",
	}
	generatedNodes = []string{
		"192.0.2.7", "192.0.2.7:443", "203.0.113.66", "[2001:db8::7]", "2001:db8::7",
		"[2001:db8::7]:1",
		"[::ffff:192.0.2.8]:80", "::", "0.0.0.0", "255.255.255.255", "1:2:3:4:5:6:7:8", "unknown",
		"_hidden", "10.0.0.6:_port", "[2001:db8:1::5]:_p", "fe80::1%eth0", "192.0.2", "192.0.2.256",
		"192.0.2.007", "192.0.2.7:65536", "",
	}
)

// node returns an address of a trusted proxy, or of somebody else, or what is none.
func (g *fieldGenerator) node() string {
	if g.IntN(2) == 0 {
		return pick(g, generatedProxies)
	}
	return pick(g, generatedNodes)
}

// generatedCases is how many fields TestGeneratedFields makes if CLIENTIP_CASES doesn't say.
const generatedCases = 20_000

// TestGeneratedFields does what FuzzField does, without the engine that looks for new ways through
// the code and is several times slower. CLIENTIP_CASES=50000000 has it take its time.
func TestGeneratedFields(t *testing.T) {
	n := generatedCases
	if s := os.Getenv("CLIENTIP_CASES"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		require.NoError(t, err, "CLIENTIP_CASES")
	}
	all := allCompared(t)
	g := &fieldGenerator{Rand: rand.New(rand.NewPCG(19, 2026))}
	var read [len(foundNames)][len(problemNames)]int
	for i := range n {
		kind := byte(g.Uint32())
		c := all[int(kind)%len(all)]
		if err := compareField(all, kind, g.next(c.cfg.Field)); err != nil {
			t.Fatalf("field %d of %d: %v", i+1, n, err)
		}
		read[c.got.Found][c.got.Problem]++
		if done := i + 1; done%1_000_000 == 0 || done == n {
			t.Logf("%d of %d fields: %s", done, n, outcomes(&read))
		}
	}
	for _, found := range []Found{FoundConnection, FoundField} {
		for problem := ProblemNone; problem < Problem(len(problemNames)); problem++ {
			if found != FoundField || problem != ProblemRepeated {
				require.NotZero(t, read[found][problem], "no field with %v, %v", found, problem)
			}
		}
	}
}

func outcomes(read *[len(foundNames)][len(problemNames)]int) (s string) {
	for found := range read {
		for problem, n := range read[found] {
			if n > 0 {
				s += fmt.Sprintf("[%v, %v] %d ", Found(found), Problem(problem), n)
			}
		}
	}
	return s
}
