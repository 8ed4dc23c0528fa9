// SPDX-License-Identifier: Apache-2.0
import Guests
import Testing

/// Kernels of 2026 reset a connection on which more packets wait than they have room for, however few
/// bytes these hold; older ones have no such limit.
@Suite("A real guest whose program does not read", .serialized)
struct IdleReaderGuestTests {
    static let setups = GuestSetup.wanted([
        GuestSetup(.uml, .packed, requestQueueCount: 1),
        GuestSetup(.qemu, .split, requestQueueCount: 1),
    ])

    @Test("gets a MiB of small writes whole once it does", arguments: setups)
    func smallWrites(setup: GuestSetup) async throws {
        let (daemon, guest) = try await onOwnThread {
            let daemon = try Daemon(disabledFeatures: setup.disabledFeatures, diskMebibytes: 64)
            let guest = try Guest(setup, on: daemon)
            try guest.start("exercise serve vsock:any:5008 & echo $! >/tmp/reader; wait")
                .waitForLine("serving")
            try guest.run("until [ -s /tmp/reader ]; do usleep 10000; done")
            try guest.run("kill -STOP $(cat /tmp/reader)")
            return (daemon, guest)
        }
        let address = StreamAddress.guest(path: daemon.hostPath, port: 5008)
        async let sent = onOwnThread {
            try StreamExchange(over: address.connect())
                .send(byteCount: 1 << 20, seed: 9, blockByteCount: 104)
        }
        // Long enough for what the guest grants, most of the time.
        _ = try await onOwnThread { try guest.run("sleep 1; kill -CONT $(cat /tmp/reader)") }
        let summary = try await sent
        #expect(summary.byteCount == 1_048_576)
        try await onOwnThread {
            try guest.powerOff()
            #expect(daemon.terminate(within: .seconds(1)) == .exited(0))
            try daemon.remove()
        }
    }
}
