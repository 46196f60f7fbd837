package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// benchProcess is a process and what it used during the load.
type benchProcess struct {
	Name       string  `json:"name"`
	PID        int     `json:"pid"`
	CPUSeconds float64 `json:"cpu_seconds"`
	RSS        int64   `json:"rss_bytes"` // resident at the end
	PeakRSS    int64   `json:"peak_rss_bytes"`

	server bool
	before float64
}

// givenProcesses are those of --pid, and bench itself.
func (b *bench) givenProcesses() []benchProcess {
	all := []benchProcess{{Name: "bench (the load)", PID: os.Getpid()}}
	for _, pid := range b.pids {
		all = append(all, benchProcess{Name: processName(pid), PID: pid, server: true})
	}
	return all
}

func startProcesses(all []benchProcess) {
	for i := range all {
		all[i].before = cpuSeconds(all[i].PID)
	}
}

func endProcesses(all []benchProcess) []benchProcess {
	for i, p := range all {
		all[i].CPUSeconds = cpuSeconds(p.PID) - p.before
		all[i].RSS, all[i].PeakRSS = memory(p.PID)
	}
	return all
}

// benchMachine is what became of the time of all processors of the machine that bench
// runs on, during the load: shares of it, 0 to 1. What was stolen the hypervisor gave to
// others, and latencies are longer for it.
type benchMachine struct {
	Used   float64 `json:"used"`
	Stolen float64 `json:"stolen"`
}

// cpuTimes are times of all processors since the machine began, in clock ticks.
type cpuTimes struct{ idle, stolen, all float64 }

// machineTimes reads /proc/stat (proc(5): user, nice, system, idle, iowait, irq,
// softirq, steal); zero if that cannot be known.
func machineTimes() (t cpuTimes) {
	const idle, iowait, steal = 3, 4, 7
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(strings.TrimPrefix(line, "cpu ")) {
		ticks, err := strconv.ParseFloat(field, 64)
		switch {
		case err != nil:
			return cpuTimes{}
		case i > steal: // guests, who are counted as users too
			return t
		case i == idle || i == iowait:
			t.idle += ticks
		case i == steal:
			t.stolen = ticks
		}
		t.all += ticks
	}
	return t
}

func (t cpuTimes) since(before cpuTimes) benchMachine {
	all := t.all - before.all
	if all <= 0 {
		return benchMachine{}
	}
	stolen := (t.stolen - before.stolen) / all
	return benchMachine{Used: max(0, 1-(t.idle-before.idle)/all-stolen), Stolen: stolen}
}

// clockTicks is USER_HZ of Linux: the unit of times in /proc/PID/stat.
const clockTicks = 100

// cpuSeconds is what a process has used so far (proc(5): utime and stime); 0 if
// that cannot be known.
func cpuSeconds(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if errors.Join(err1, err2) != nil {
		return 0
	}
	return (user + system) / clockTicks
}

// memory is what is resident now, and at most since the process began, in octets.
func memory(pid int) (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		name, value, _ := strings.Cut(line, ":")
		if _, err := fmt.Sscan(value, &kilobytes); err != nil {
			continue
		}
		switch name {
		case "VmRSS":
			now = kilobytes << 10
		case "VmHWM":
			peak = kilobytes << 10
		}
	}
	return now, peak
}

func processName(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil || syscall.Kill(pid, 0) != nil {
		return "(unknown)"
	}
	return strings.TrimSpace(string(text))
}
