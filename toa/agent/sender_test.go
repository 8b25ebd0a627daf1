package agent

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// How a sender sends its option.
const (
	sendAll  = 0 // in every packet from the handshake's last on, as LVS and DPVS do
	sendOnce = 1 // in the first that can carry it
	sendSYN  = 2 // from the SYN on
)

// Operations of the kernel's struct bpf_sock_ops, and a flag.
const (
	opTCPConnect        = 3
	opActiveEstablished = 4
	opHdrOptLen         = 14
	opWriteHdrOpt       = 15
	flagWriteHdrOpt     = 64
)

// A sender plays the load balancer: a sock_ops program of its own that writes the option which user
// space has put into the connecting socket's storage.
type sender struct{ options *ebpf.Map }

// The storage: the option's length, how to send it, and from sendOption on the option.
const (
	sendOption = 4
	sendSize   = 48
)

func newSender(t testing.TB, cgroup string) *sender {
	t.Helper()
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "toa_send", Type: ebpf.SkStorage, KeySize: 4, ValueSize: sendSize,
		Flags: unix.BPF_F_NO_PREALLOC,
		Key:   &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed},
		Value: &btf.Struct{Name: "send", Size: sendSize, Members: []btf.Member{
			{Name: "w", Type: &btf.Array{Index: u32, Type: u32, Nelems: sendSize / 4}}}},
	})
	require.NoError(t, err)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "toa_sender", Type: ebpf.SockOps, AttachType: ebpf.AttachCGroupSockOps,
		Instructions: send(m.FD(), checkMPTCP() == nil), License: "Dual MIT/GPL",
	})
	require.NoError(t, err)
	l, err := link.AttachCgroup(link.CgroupOptions{
		Path: cgroup, Attach: ebpf.AttachCGroupSockOps, Program: p,
	})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close(); p.Close(); m.Close() })
	return &sender{m}
}

// send is the sender's program. R7 is the value of the socket or, for MPTCP, of the one that owns the
// subflow.
func send(options int, mptcp bool) asm.Instructions {
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R8, asm.R6, opsOp, asm.Word),
		asm.JEq.Imm(asm.R8, opTCPConnect, "get"),
		asm.JEq.Imm(asm.R8, opActiveEstablished, "get"),
		asm.JEq.Imm(asm.R8, opHdrOptLen, "get"),
		asm.JEq.Imm(asm.R8, opWriteHdrOpt, "get"),
		asm.Ja.Label("out"),
		asm.LoadMem(asm.R2, asm.R6, opsSk, asm.DWord).WithSymbol("get"),
		asm.JEq.Imm(asm.R2, 0, "out"),
	}
	lookup := asm.Instructions{
		asm.LoadMapPtr(asm.R1, options),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
	}
	ins = append(ins, lookup...)
	ins = append(ins, asm.JNE.Imm(asm.R0, 0, "have"))
	if mptcp {
		ins = append(ins,
			asm.LoadMem(asm.R1, asm.R6, opsSk, asm.DWord),
			asm.JEq.Imm(asm.R1, 0, "out"),
			asm.FnSkcToMptcpSock.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Reg(asm.R2, asm.R0),
		)
		ins = append(ins, lookup...)
		ins = append(ins, asm.JNE.Imm(asm.R0, 0, "have"))
	}
	return append(ins,
		asm.Ja.Label("out"),
		asm.Mov.Reg(asm.R7, asm.R0).WithSymbol("have"),
		asm.JEq.Imm(asm.R8, opHdrOptLen, "len"),
		asm.JEq.Imm(asm.R8, opWriteHdrOpt, "write"),
		asm.LoadMem(asm.R1, asm.R7, 1, asm.Byte),
		asm.JEq.Imm(asm.R8, opActiveEstablished, "established"),
		asm.JSet.Imm(asm.R1, sendSYN, "on"), // it connects
		asm.Ja.Label("out"),
		asm.JSet.Imm(asm.R1, sendSYN, "out").WithSymbol("established"),
		asm.Mov.Imm(asm.R2, flagWriteHdrOpt).WithSymbol("on"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnSockOpsCbFlagsSet.Call(),
		asm.Ja.Label("out"),

		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("len"),
		asm.LoadMem(asm.R2, asm.R7, 0, asm.Byte),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnReserveHdrOpt.Call(),
		asm.Ja.Label("out"),

		asm.LoadMem(asm.R3, asm.R7, 0, asm.Byte).WithSymbol("write"),
		asm.JLT.Imm(asm.R3, 2, "out"),
		asm.JGT.Imm(asm.R3, 40, "out"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, sendOption),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnStoreHdrOpt.Call(),
		asm.LoadMem(asm.R1, asm.R7, 1, asm.Byte),
		asm.JSet.Imm(asm.R1, sendOnce, "off"),
		asm.Ja.Label("out"),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("off"),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnSockOpsCbFlagsSet.Call(),

		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
}

// option returns the bytes of an option with an address.
func option(kind uint8, a netip.AddrPort) []byte {
	b := []byte{kind, 0}
	b = binary.BigEndian.AppendUint16(b, a.Port())
	b = append(b, a.Addr().AsSlice()...)
	b[1] = byte(len(b))
	return b
}

// dial connects with an option; nil is none.
func (s *sender) dial(network, addr string, option []byte, how byte, mptcp bool) (*net.TCPConn, error) {
	var d net.Dialer
	d.SetMultipathTCP(mptcp)
	if option != nil {
		d.Control = func(_, _ string, socket syscall.RawConn) error {
			value := make([]byte, sendSize)
			value[0], value[1] = byte(len(option)), how
			copy(value[sendOption:], option)
			var err error
			if e := socket.Control(func(fd uintptr) { err = s.options.Put(uint32(fd), value) }); e != nil {
				return e
			}
			return err
		}
	}
	c, err := d.DialContext(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// claim4 and claim6 return the address of a client by its number.
func claim4(i int) netip.AddrPort {
	b := [4]byte{198, 18, byte(i >> 8), byte(i)}
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(1+i*31))
}

func claim6(i int) netip.AddrPort {
	b := [16]byte{0x20, 1, 0x0d, 0xb8, 7: byte(i), 9: 0x42, 14: byte(i >> 8), 15: byte(i)}
	return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(1+i*17))
}
