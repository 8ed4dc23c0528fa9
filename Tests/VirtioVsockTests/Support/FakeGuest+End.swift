// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing
import Virtio

@testable import VirtioVsock

extension FakeGuest {
    /// What has to be true when a test is over, whatever it did: every chain was given back, and with
    /// the driver go all connections, sockets, waiting bytes and timers.
    func checkEnd() {
        // Connections that played themselves are nobody's any more.
        streams = []
        let multiplexer = device.multiplexer
        if multiplexer.hostboundQueue?.breakage == nil, multiplexer.hostboundQueue != nil,
            multiplexer.guestboundQueue?.breakage == nil
        {
            refillReceiveRing()
            endRest()
            #expect(chainsUnderWay == 0, "every chain of the guest was given back")
        }
        stop()
        device.reset()
        settle()
        #expect(device.connectionCount == 0, "no connection outlives the driver")
        outwaitEverybody()
        let table = multiplexer.table
        #expect(table.count == 0, "every slot was given back")
        for slot in table.indices {
            let isOpen = table.slots[slot].host.isOpen
            #expect(!isOpen, "no socket is left open")
            let keepsBytes = !table.slots[slot].host.backlog.isEmpty
            #expect(!keepsBytes, "no bytes are kept for nobody")
            let keepsMessage = !table.slots[slot].message.isEmpty
            #expect(!keepsMessage, "no message is kept for nobody")
            #expect(table.slots[slot].patience == nil, "nobody waits")
        }
        #expect(table.firstReady == nil)
    }

    /// Posts receive buffers, should the test have let them run out.
    private func refillReceiveRing() {
        postsBuffers = true
        for _ in 0..<8 where receiveRing.inFlightCount < 8 { postBuffer([3776]) }
        settle()
    }

    /// Lets a stream's rest pass, after which the guest's packets are looked at.
    private func endRest() {
        for _ in 0..<2 where options.rest > .zero { advance(by: options.rest) }
    }

    /// Lets the longest patience pass: that with a reader on the host who has not read.
    private func outwaitEverybody() {
        let longest = max(
            options.lingerTimeout, options.waitForGuest, options.closeTimeout,
            options.handshakeTimeout)
        for _ in 0..<2 { advance(by: longest + .seconds(1)) }
    }
}
