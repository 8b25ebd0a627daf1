package agent

import (
	"github.com/cilium/ebpf/asm"

	"github.com/seed2e8fe8ee/proxyproto/toa/internal/sockopt"
)

// Offsets in the kernel's struct bpf_sockopt, and in struct bpf_sock.
const (
	optSk      = 0
	optVal     = 8
	optValEnd  = 16
	optLevel   = 24
	optName    = 28
	optLen     = 32
	optRetval  = 36
	skProtocol = 12
)

// getsockopt is the program that answers: it adds to the value in a socket's storage what a reader
// needs to know besides, and leaves every other option to the kernel.
func getsockopt(storage int, mptcp bool) asm.Instructions {
	covered := int32(0)
	if mptcp {
		covered = 1
	}
	ins := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, optName, asm.Word),
		asm.JNE.Imm(asm.R1, sockopt.Name, "out"),
		asm.LoadMem(asm.R1, asm.R6, optLevel, asm.Word),
		asm.JNE.Imm(asm.R1, sockopt.Level, "out"),
		asm.LoadMem(asm.R7, asm.R6, optVal, asm.DWord),
		asm.LoadMem(asm.R8, asm.R6, optValEnd, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.Add.Imm(asm.R1, sockopt.Size),
		asm.JGT.Reg(asm.R1, asm.R8, "out"),
		asm.LoadMem(asm.R9, asm.R6, optSk, asm.DWord),
		asm.JEq.Imm(asm.R9, 0, "out"),
		asm.LoadMapPtr(asm.R1, storage),
		asm.Mov.Reg(asm.R2, asm.R9),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
		asm.JNE.Imm(asm.R0, 0, "copy"),
		asm.Mov.Imm(asm.R1, 0),
	}
	for i := int16(0); i < sockopt.Size; i += 8 {
		ins = append(ins, asm.StoreMem(asm.R7, i, asm.R1, asm.DWord))
	}
	ins = append(ins, asm.Ja.Label("more"))
	for i := int16(0); i < sockopt.Size; i += 8 {
		load := asm.LoadMem(asm.R1, asm.R0, i, asm.DWord)
		if i == 0 {
			load = load.WithSymbol("copy")
		}
		ins = append(ins, load, asm.StoreMem(asm.R7, i, asm.R1, asm.DWord))
	}
	return append(ins,
		asm.Mov.Imm(asm.R1, sockopt.Version).WithSymbol("more"),
		asm.StoreMem(asm.R7, sockopt.Layout, asm.R1, asm.Byte),
		asm.LoadMem(asm.R1, asm.R9, skProtocol, asm.Word),
		asm.StoreMem(asm.R7, sockopt.Protocol, asm.R1, asm.Half),
		asm.Mov.Imm(asm.R1, covered),
		asm.StoreMem(asm.R7, sockopt.MPTCP, asm.R1, asm.Byte),
		asm.Mov.Imm(asm.R1, sockopt.Size),
		asm.StoreMem(asm.R6, optLen, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R6, optRetval, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
}
