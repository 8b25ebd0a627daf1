package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// resultsDir has what was measured last, a file for each part, as `go test -bench` writes
// figures: the page is made of these files alone, and benchstat compares them.
const resultsDir = "results"

func resultsFile(dir, part string) string { return filepath.Join(dir, part+".txt") }

// A record is a part as it is stored.
type record struct {
	figures *figures
	about   map[string]string // the machine, and what was compared
}

// format writes a part: a line for each contender, piece of work and round, with all its units.
func (f *figures) format(part string, about []string) []byte {
	var b bytes.Buffer
	for _, line := range about {
		fmt.Fprintln(&b, line)
	}
	type row struct{ work, by string }
	var rows []row
	units := map[row][]string{}
	for _, key := range f.order {
		r := row{key.work, key.by}
		if units[r] == nil {
			rows = append(rows, r)
		}
		units[r] = append(units[r], key.unit)
	}
	name := "Benchmark" + strings.ToUpper(part[:1]) + part[1:]
	for _, r := range rows {
		for round, more := 0, true; more; round++ {
			more = false
			line := fmt.Sprintf("%s/%s/by=%s 1", name, escape(r.work), escape(r.by))
			for _, unit := range units[r] {
				if s := f.of(r.work, r.by, unit); round < len(s) {
					line += " " + strconv.FormatFloat(s[round], 'g', 6, 64) + " " + unit
					more = true
				}
			}
			if more {
				fmt.Fprintln(&b, line)
			}
		}
	}
	return b.Bytes()
}

// The names of benchmarks have no spaces, and so ours no underscores.
func escape(name string) string {
	if strings.Contains(name, "_") {
		panic("an underscore in " + name)
	}
	return strings.ReplaceAll(name, " ", "_")
}

func unescape(name string) string { return strings.ReplaceAll(name, "_", " ") }

// parseRecord reads what format has written.
func parseRecord(text string) (*record, error) {
	r := &record{newFigures(), map[string]string{}}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "Benchmark") {
			r.about[key] = strings.TrimSpace(value)
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return nil, fmt.Errorf("not a benchmark's line: %q", line)
		}
		name, by, ok := strings.Cut(fields[0], "/by=")
		_, work, named := strings.Cut(name, "/")
		if !ok || !named {
			return nil, fmt.Errorf("not a benchmark's name: %q", fields[0])
		}
		for i := 2; i+1 < len(fields); i += 2 {
			x, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, err
			}
			r.figures.add(unescape(work), unescape(by), fields[i+1], x)
		}
	}
	return r, nil
}

// readRecords reads all parts that have been measured.
func readRecords(dir string) (map[string]*record, error) {
	all := map[string]*record{}
	for _, p := range parts {
		text, err := os.ReadFile(resultsFile(dir, p.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			all[p.name], err = parseRecord(string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return all, nil
}

// store replaces a part's figures, and prints what has changed for this library.
func store(dir, part string, text []byte) error {
	file := resultsFile(dir, part)
	last, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, text, 0o644); err != nil || last == nil {
		return err
	}
	return printChanges(part, last, file)
}

// printChanges has benchstat compare this library's figures with those before.
func printChanges(part string, last []byte, file string) error {
	before, err := os.CreateTemp("", "last-*.txt")
	if err != nil {
		return err
	}
	defer os.Remove(before.Name())
	_, err = before.Write(last)
	if err := errors.Join(err, before.Close()); err != nil {
		return err
	}
	fmt.Printf("\n%s, compared with the last time:\n", part)
	cmd := exec.Command("go", "tool", "benchstat", "-table", "goos,goarch,cpu", "-ignore",
		".config", "-filter", "/by:("+nameOurs+" OR "+nameTrust+" OR "+nameRules+")",
		"last="+before.Name(), "now="+file)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// aboutMachine describes the machine, how busy it is, and what is compared.
func aboutMachine() []string {
	about := []string{
		"goos: " + runtime.GOOS,
		"goarch: " + runtime.GOARCH,
		"cpu: " + cpuModel(),
		"cpus: " + strconv.Itoa(runtime.NumCPU()),
		"kernel: " + firstLine("uname", "-sr"),
		"date: " + time.Now().UTC().Format("2006-01-02"),
		"load: " + loadAverage(),
	}
	versions := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			for _, name := range []string{namePires, nameArmon, nameMastercactapus} {
				if strings.HasPrefix(d.Path, "github.com/"+name+"/") {
					versions = append(versions, d.Path+" "+d.Version)
				}
			}
		}
	}
	for _, tool := range [][]string{
		{"gcc", "--version"}, {"haproxy", "-v"}, {"wrk", "-v"}, {"strace", "-V"},
	} {
		if v := firstLine(tool[0], tool[1:]...); v != "" {
			v, _, _ = strings.Cut(v, " Copyright")
			versions = append(versions, strings.TrimSuffix(v, " - https://haproxy.org/"))
		}
	}
	return append(about, "versions: "+strings.Join(versions, "; "))
}

func firstLine(name string, args ...string) string {
	// Debian puts servers where not every user looks.
	cmd := exec.Command(name, args...)
	if cmd.Err != nil {
		cmd = exec.Command("/usr/sbin/"+name, args...)
	}
	out, _ := cmd.CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}

// loadAverage tells how many processes have run or waited for a CPU lately.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(b)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown model"
}
