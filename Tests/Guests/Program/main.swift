// SPDX-License-Identifier: Apache-2.0

// The program that exercises disks and streams, in the guest and, for the streams' other end, on the
// host. It is one static binary, so that an initramfs needs nothing beside it.
import Glibc

/// The command line was not understood.
struct UsageError: Error {
    static let text = """
        usage: exercise disk DEVICE MIB TRANSFERS THREADS SEED
               exercise disk-load DEVICE MIB THREADS
               exercise serve ADDRESS [COUNT]
               exercise send|receive ADDRESS MIB SEED
               exercise crowd ADDRESS CONNECTIONS KIB ROUNDS
        ADDRESS is vsock:CID:PORT (CID "any" to listen), unix:PATH or guest:PATH:PORT

        """
}

func run(_ arguments: [String]) throws {
    let rest = Array(arguments.dropFirst())
    switch arguments.first {
    case "disk": try runDiskExercise(rest)
    case "disk-load": try runDiskLoad(rest)
    case "serve": try runServer(rest)
    case "send": try runTransfer(rest, sending: true)
    case "receive": try runTransfer(rest, sending: false)
    case "crowd": try runCrowd(rest)
    default: throw UsageError()
    }
}

func complain(_ text: String) {
    // SAFETY: the text is passed as a NUL-terminated string that lives through the call.
    _ = unsafe write(STDERR_FILENO, text, text.utf8.count)
}

do {
    try run(Array(CommandLine.arguments.dropFirst()))
} catch is UsageError {
    complain(UsageError.text)
    exit(2)
} catch {
    complain("exercise: \(error)\n")
    exit(1)
}
