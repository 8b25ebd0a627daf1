package agent

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf/asm"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// Offsets in the kernel's struct bpf_sock_ops, and its constants.
const (
	opsOp         = 0
	opsSk         = 184
	opsSkbData    = 192
	opsSkbDataEnd = 200
	opsSkbLen     = 208

	opPassiveEstablished = 5 // BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB

	storageCreate = 1 // BPF_SK_STORAGE_GET_F_CREATE
)

// TCP's header: 20 bytes, and up to 40 of options.
const (
	tcpHeader    = 20
	tcpMaxHeader = 60
	tcpDataOff   = 12 // four bits, in words of four bytes
	tcpFlags     = 13
	flagSYN      = 2
	flagPSH      = 8
	flagACK      = 16

	optionEnd  = 0
	optionNone = 1
)

// certainLength is the longest packet, without its IP header, in which an option can be certain: what
// IPv6 has as the smallest MTU. In a longer one the balancer may have found no room for its own.
const certainLength = 1280 - 40

// lastOption is the last offset in the header at which an address has room.
const lastOption = tcpMaxHeader - lengthIPv4

// sockOps is the program that reads. It runs once per accepted connection, when the packet that
// completed the handshake is at hand, and leaves the first address among that packet's options in
// the socket's local storage.
//
// It also tells whether a client can have written that option. A balancer writes its own unless there
// is no room, and need not take out a client's. So the option must be where the balancer writes, and
// leave room for the longest that it writes. Some write it before all other options: there only the
// first is certain. Some write it behind them, where a client's options can hide it, by an end of
// options or a length that includes it: then only the last is certain, if none is before it. That holds
// for balancers of the first kind too, and so for those of which nothing is known.
// SYN, FIN, RST and URG make balancers differ, so that packets with these are never certain.
//
// The walk is unrolled, a step for each offset at which an option may begin. A loop takes the
// verifier to its limit of a million instructions, and needs CAP_PERFMON because it adds a variable
// to a packet pointer.
//
//	R0 length of the header   R6 context   R7 header   R8 its end   R9 offset of the next option
func sockOps(storage int, formats []Format, mptcp bool) asm.Instructions {
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, opsOp, asm.Word),
		asm.JNE.Imm(asm.R1, opPassiveEstablished, "out"),
	}
	ins = append(ins, header()...)
	ins = append(ins, asm.Mov.Imm(asm.R9, tcpHeader))
	for at := int32(tcpHeader); at <= lastOption; at++ {
		ins = append(ins, step(at, formats)...)
	}
	ins = append(ins, take(formats)...)
	ins = append(ins, keep(storage, mptcp)...)
	return append(ins, asm.Mov.Imm(asm.R0, 1).WithSymbol("out"), asm.Return())
}

// header loads R7, R8 and R0.
func header() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R7, asm.R6, opsSkbData, asm.DWord),
		asm.LoadMem(asm.R8, asm.R6, opsSkbDataEnd, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, tcpHeader),
		asm.JGT.Reg(asm.R1, asm.R8, "out"), // also when there is no packet
		asm.LoadMem(asm.R0, asm.R7, tcpDataOff, asm.Byte),
		asm.RSh.Imm(asm.R0, 4),
		asm.LSh.Imm(asm.R0, 2),
	}
}

func label(name string, at int32) string { return fmt.Sprint(name, at) }

// step looks at the option that begins at an offset, if one does.
func step(at int32, formats []Format) asm.Instructions {
	next, option, match := label("at", at+1), label("option", at), label("match", at)
	here := label("here", at+1)
	if at == lastOption {
		next, here = "out", "out"
	}
	var ins asm.Instructions
	if at > tcpHeader {
		ins = append(ins, asm.JNE.Imm(asm.R9, at, next).WithSymbol(label("at", at)))
	}
	ins = append(ins,
		asm.Mov.Reg(asm.R1, asm.R7).WithSymbol(label("here", at)),
		asm.Add.Imm(asm.R1, at+1),
		asm.JGT.Reg(asm.R1, asm.R8, "out"),
		asm.LoadMem(asm.R3, asm.R7, int16(at), asm.Byte),
		asm.JEq.Imm(asm.R3, optionEnd, "out"),
		asm.JNE.Imm(asm.R3, optionNone, option),
		asm.Mov.Imm(asm.R9, at+1),
		asm.Ja.Label(here),

		asm.Mov.Reg(asm.R1, asm.R7).WithSymbol(option),
		asm.Add.Imm(asm.R1, at+2),
		asm.JGT.Reg(asm.R1, asm.R8, "out"),
		asm.LoadMem(asm.R4, asm.R7, int16(at+1), asm.Byte),
		asm.JLT.Imm(asm.R4, 2, "out"),
		asm.Mov.Reg(asm.R5, asm.R4),
		asm.Add.Imm(asm.R5, at),
		asm.JGT.Reg(asm.R5, asm.R0, "out"), // cut off by the header's end
		asm.Mov.Reg(asm.R9, asm.R5),
		asm.LSh.Imm(asm.R3, 8),
		asm.Or.Reg(asm.R3, asm.R4), // kind<<8 | length
	)
	for _, f := range formats {
		ins = append(ins, asm.JEq.Imm(asm.R3, int32(f.Kind)<<8|int32(f.Length), match))
	}
	return append(ins,
		asm.Ja.Label(next),
		asm.Mov.Imm(asm.R9, at).WithSymbol(match),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, at),
		asm.Ja.Label("take"),
	)
}

// allFirst reports whether all balancers are known to write before all other options. One that isn't
// is enough: its clients can write what the others do.
func allFirst(formats []Format) bool {
	return !slices.ContainsFunc(formats, func(f Format) bool { return !f.First })
}

// certain leaves in R2 whether the option at R9, whose length is R4, is certain.
func certain(formats []Format) asm.Instructions {
	room := int32(0)
	for _, f := range formats {
		room = max(room, int32(f.Length))
	}
	place := asm.Instructions{
		asm.Add.Reg(asm.R9, asm.R4),
		asm.JNE.Reg(asm.R9, asm.R0, "judged"),
	}
	if allFirst(formats) {
		place = asm.Instructions{asm.JNE.Imm(asm.R9, tcpHeader, "judged")}
	}
	ins := append(asm.Instructions{asm.Mov.Imm(asm.R2, 0)}, place...)
	return append(ins,
		asm.JGT.Imm(asm.R0, tcpMaxHeader-room, "judged"),
		asm.LoadMem(asm.R5, asm.R7, tcpFlags, asm.Byte),
		asm.And.Imm(asm.R5, 0x3f&^flagPSH),
		asm.JNE.Imm(asm.R5, flagACK, "judged"),
		asm.LoadMem(asm.R5, asm.R6, opsSkbLen, asm.Word),
		asm.JGT.Imm(asm.R5, certainLength-room, "judged"),
		asm.Mov.Imm(asm.R2, 1),
	)
}

// value is where the value is built, on the stack.
const value = int16(-sockopt.Size)

// take copies the option at R1 into the value, and whether it is certain.
func take(formats []Format) asm.Instructions {
	ins := asm.Instructions{asm.Mov.Imm(asm.R5, 0).WithSymbol("take")}
	for i := int16(0); i < sockopt.Size; i += 8 {
		ins = append(ins, asm.StoreMem(asm.RFP, value+i, asm.R5, asm.DWord))
	}
	ins = append(ins,
		asm.Mov.Reg(asm.R5, asm.R1),
		asm.Add.Imm(asm.R5, lengthIPv4),
		asm.JGT.Reg(asm.R5, asm.R8, "out"),
		asm.LoadMem(asm.R3, asm.R1, 0, asm.Byte),
		asm.LoadMem(asm.R4, asm.R1, 1, asm.Byte),
	)
	ins = append(ins, certain(formats)...)
	ins = append(ins,
		asm.StoreMem(asm.RFP, value+sockopt.Certain, asm.R2, asm.Byte).WithSymbol("judged"),
		asm.JEq.Imm(asm.R4, lengthIPv6, "ipv6"),

		// Kind 254 is shared by experiments. A TCP Fast Open cookie of four bytes has F989 where
		// the port would be (RFC 7413, section 2), in a SYN only.
		asm.JNE.Imm(asm.R3, 254, "ipv4"),
		asm.LoadMem(asm.R2, asm.R7, tcpFlags, asm.Byte),
		asm.And.Imm(asm.R2, flagSYN),
		asm.JEq.Imm(asm.R2, 0, "ipv4"),
		asm.LoadMem(asm.R2, asm.R1, 2, asm.Byte),
		asm.JNE.Imm(asm.R2, 0xf9, "ipv4"),
		asm.LoadMem(asm.R2, asm.R1, 3, asm.Byte),
		asm.JEq.Imm(asm.R2, 0x89, "out"),

		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word).WithSymbol("ipv4"),
		asm.StoreMem(asm.RFP, value+sockopt.Addr, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R5, 4),
		asm.Ja.Label("rest"),

		asm.Mov.Reg(asm.R2, asm.R1).WithSymbol("ipv6"),
		asm.Add.Imm(asm.R2, lengthIPv6),
		asm.JGT.Reg(asm.R2, asm.R8, "out"),
	)
	for i := int16(0); i < 16; i += 4 {
		ins = append(ins,
			asm.LoadMem(asm.R2, asm.R1, 4+i, asm.Word),
			asm.StoreMem(asm.RFP, value+sockopt.Addr+i, asm.R2, asm.Word),
		)
	}
	return append(ins,
		asm.Mov.Imm(asm.R5, 6),
		asm.StoreMem(asm.RFP, value+sockopt.Family, asm.R5, asm.Byte).WithSymbol("rest"),
		asm.StoreMem(asm.RFP, value+sockopt.Kind, asm.R3, asm.Byte),
		asm.LoadMem(asm.R2, asm.R1, 2, asm.Half),
		asm.StoreMem(asm.RFP, value+sockopt.Port, asm.R2, asm.Half),
	)
}

// keep puts the value into the storage of the packet's socket, and of the MPTCP socket that it is a
// subflow of: accept returns that one, another struct sock.
func keep(storage int, mptcp bool) asm.Instructions {
	put := asm.Instructions{
		asm.JEq.Imm(asm.R2, 0, "out"),
		asm.LoadMapPtr(asm.R1, storage),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(value)),
		asm.Mov.Imm(asm.R4, storageCreate),
		asm.FnSkStorageGet.Call(),
	}
	ins := append(asm.Instructions{asm.LoadMem(asm.R2, asm.R6, opsSk, asm.DWord)}, put...)
	if !mptcp {
		return ins
	}
	ins = append(ins,
		asm.LoadMem(asm.R1, asm.R6, opsSk, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, "out"),
		asm.FnSkcToMptcpSock.Call(),
		asm.Mov.Reg(asm.R2, asm.R0),
	)
	return append(ins, put...)
}
