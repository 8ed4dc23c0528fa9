// SPDX-License-Identifier: Apache-2.0

import Driver
import LinuxIO
import Testing

@testable import VirtioVsock

@Suite("The pace of a stream to the guest")
struct PaceTests {
    private static let rest = Duration.microseconds(80)

    /// A guest with a connection on which eight short reads have proved a stream.
    private func streaming(
        eventIndex: Bool = true
    ) throws -> (guest: FakeGuest, stream: GuestStream, host: HostEnd) {
        let guest = try FakeGuest(.init(eventIndex: eventIndex, rest: Self.rest))
        let (stream, host) = try guest.accept(at: 22)
        for round in 1...8 {
            host.write(testBytes(4096, seed: round))
            guest.settle()
            #expect(stream.bytesRead.count == round * 4096, "the proof is read at once")
        }
        return (guest, stream, host)
    }

    // MARK: What counts as a stream

    /// Shows a pace one read after another; after which of them it had the stream rest.
    private func rests(_ pace: inout Pace, after byteCounts: [Int]) -> [Bool] {
        var answers: [Bool] = []
        for byteCount in byteCounts { answers.append(pace.read(byteCount)) }
        return answers
    }

    private func repeated(_ byteCount: Int, _ count: Int) -> [Int] {
        Array(repeating: byteCount, count: count)
    }

    @Test("is kept after eight short reads of half a KiB, and not after seven")
    func proof() {
        var pace = Pace()
        let answers = rests(&pace, after: repeated(512, 8))
        #expect(answers == Array(repeating: false, count: 7) + [true])
        #expect(pace.isKept)
    }

    @Test("is not kept for a trickle, nor for large pieces, nor for requests and answers")
    func noProof() {
        var pace = Pace()
        let trickle = rests(&pace, after: repeated(100, 100))
        #expect(!trickle.contains(true))
        let pieces = rests(&pace, after: repeated(65_536, 100))
        #expect(!pieces.contains(true))
        for _ in 0..<100 {
            let requests = rests(&pace, after: repeated(4096, 7))
            #expect(!requests.contains(true))
            pace.interrupt()
        }
    }

    @Test("is kept although one read in three is a long one")
    func mixedProof() {
        var pace = Pace()
        _ = rests(&pace, after: (0..<30).flatMap { _ in [4096, 4096, 100_000] })
        #expect(pace.isKept)
    }

    @Test("is not kept after eight rests that brought little, and then needs twice the proof")
    func disappointment() {
        var pace = Pace()
        _ = rests(&pace, after: repeated(4096, 8))
        let answers = rests(&pace, after: repeated(2047, 8))
        #expect(answers == Array(repeating: true, count: 7) + [false])
        let second = rests(&pace, after: repeated(4096, 16))
        #expect(second == Array(repeating: false, count: 15) + [true])
    }

    @Test("takes no longer to prove after rests that paid")
    func success() {
        var pace = Pace()
        _ = rests(&pace, after: repeated(4096, 8 + 8) + repeated(0, 8))
        #expect(!pace.isKept)
        _ = rests(&pace, after: repeated(4096, 8))
        #expect(pace.isKept)
    }

    @Test("is not kept where the writer has to stop again and again")
    func fullSocket() {
        var pace = Pace()
        _ = rests(&pace, after: repeated(4096, 8) + repeated(184_320, 8))
        #expect(!pace.isKept)
    }

    // MARK: What the guest sees

    @Test("lets bytes gather for one rest, and signals once for all of them")
    func gathers() throws {
        let (guest, stream, host) = try streaming(eventIndex: false)
        let signals = guest.signals.count
        for round in 9...20 {
            host.write(testBytes(4096, seed: round))
            guest.settle()
        }
        #expect(stream.bytesRead.count == 8 * 4096)
        #expect(guest.signals.count == signals)
        guest.clock.advance(by: Self.rest)
        guest.turn()
        #expect(stream.bytesRead.count == 20 * 4096)
        #expect(guest.signals.count == signals + 1)
        expectSame(stream.bytesRead, (1...20).flatMap { testBytes(4096, seed: $0) })
        #expect(guest.device.statistics.rests == 2)
    }

    @Test("holds the last piece no longer than a rest")
    func lastPiece() throws {
        let (guest, stream, host) = try streaming()
        host.write("last")
        guest.advance(by: Self.rest)
        #expect(stream.bytesRead.count == 8 * 4096 + 4)
    }

    @Test("ends after eight rests that brought nothing, and bytes are reported again")
    func emptyRests() throws {
        let (guest, stream, host) = try streaming()
        for _ in 0..<8 { guest.advance(by: Self.rest) }
        host.write("next")
        guest.settle()
        #expect(stream.bytesRead.count == 8 * 4096 + 4)
        let rests = guest.device.statistics.rests
        #expect(rests == 8)
        for _ in 0..<100 { guest.advance(by: Self.rest) }
        #expect(guest.device.statistics.rests == rests, "nothing happens any more")
    }

    @Test("does not hold the end of the stream")
    func end() throws {
        let (guest, stream, host) = try streaming()
        host.write(testBytes(10_000))
        host.close()
        guest.settle()
        #expect(stream.bytesRead.count == 8 * 4096 + 10_000)
        #expect(stream.peerShutdown == 3)
        guest.advance(by: .seconds(11))
        #expect(guest.device.connectionCount == 0)
    }

    @Test("ends when the guest says something on the connection")
    func answer() throws {
        let (guest, stream, host) = try streaming()
        host.write(testBytes(10_000))
        guest.settle()
        #expect(stream.bytesRead.count == 8 * 4096)
        stream.write(Array("stop".utf8))
        guest.settle()
        #expect(stream.bytesRead.count == 8 * 4096 + 10_000)
        #expect(host.readText() == "stop")
    }

    @Test("never slows requests and answers down")
    func pings() throws {
        let guest = try FakeGuest(.init(rest: Self.rest))
        let (stream, host) = try guest.accept(at: 22)
        for round in 1...100 {
            host.write(testBytes(4096))
            guest.settle()
            #expect(stream.bytesRead.count == round * 4096)
            stream.write([1])
            guest.settle()
            #expect(host.read() == .bytes([1]))
        }
        #expect(guest.device.statistics.rests == 0)
    }

    @Test("loses and swaps no byte, whatever the sizes, while the clock goes on")
    func wholeStream() throws {
        let guest = try FakeGuest(.init(rest: Self.rest))
        let (stream, host) = try guest.accept(at: 22)
        let bytes = (0..<3).flatMap { testBytes(1_000_000, seed: $0) }
        var rest = bytes[...]
        var size = 1
        for _ in 0..<100_000 where stream.bytesRead.count < bytes.count {
            size = (size * 7 + 13) % 9001 + 1
            rest = rest.dropFirst(max(0, host.write(Array(rest.prefix(size)))))
            guest.clock.advance(by: .microseconds(size % 50))
            guest.turn()
        }
        expectSame(stream.bytesRead, bytes)
        #expect(guest.device.statistics.rests > 100)
    }

    // MARK: The guest's notifications

    /// As above, and the guest has sent nothing but credit for so long that it need not notify.
    private func quiet() throws -> (guest: FakeGuest, stream: GuestStream, host: HostEnd) {
        let (guest, stream, host) = try streaming()
        for _ in 0..<30 {
            host.write(testBytes(8192))
            guest.advance(by: Self.rest)
        }
        return (guest, stream, host)
    }

    @Test("spares the guest notifications, and its packets wait no longer than a rest")
    func unwatched() throws {
        let (guest, stream, host) = try quiet()
        let waiting = guest.chainsUnderWay
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == waiting + 1)
        guest.advance(by: Self.rest)
        #expect(guest.chainsUnderWay == 0)
        // After rests that bring nothing the guest has to notify again, and does.
        for _ in 0..<8 { guest.advance(by: Self.rest) }
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        withExtendedLifetime(host) {}
    }

    /// A guest with a connection that large pieces come on, and that has sent nothing but credit for
    /// so long that it need not notify.
    private func bulk() throws -> (guest: FakeGuest, stream: GuestStream, host: HostEnd) {
        let guest = try FakeGuest(.init(rest: Self.rest))
        let (stream, host) = try guest.accept(at: 22)
        for round in 1...30 {
            host.write(testBytes(100_000))
            guest.settle()
            #expect(stream.bytesRead.count == round * 100_000, "large pieces are read at once")
            guest.advance(by: Self.rest)
        }
        host.write(testBytes(100_000))
        guest.settle()
        return (guest, stream, host)
    }

    @Test("spares the guest notifications while large pieces come, for a rest behind each at most")
    func unwatchedBulk() throws {
        let (guest, stream, host) = try bulk()
        let waiting = guest.chainsUnderWay
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == waiting + 1)
        guest.advance(by: Self.rest)
        #expect(guest.chainsUnderWay == 0)
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        #expect(guest.device.statistics.rests == 0)
        withExtendedLifetime(host) {}
    }

    @Test("has the guest notify of credit that a stream of large pieces waits for")
    func bulkWithoutCredit() throws {
        let (guest, stream, host) = try bulk()
        guest.advance(by: Self.rest)
        stream.readsAtOnce = false
        let before = stream.bytesRead.count
        for _ in 0..<3 {
            host.write(testBytes(100_000))
            guest.settle()
        }
        #expect(stream.queue.count == 256 << 10)
        stream.readsAtOnce = true
        stream.read()
        guest.settle()
        #expect(stream.bytesRead.count == before + 300_000)
    }

    @Test("leaves nobody waiting when the guest closes in a rest")
    func closesUnwatched() throws {
        let (guest, stream, host) = try quiet()
        stream.close()
        guest.advance(by: Self.rest)
        #expect(stream.wasReset)
        #expect(host.read() == .endOfFile)
        #expect(guest.device.connectionCount == 0)
        guest.advance(by: Self.rest)
        let other = try guest.accept(at: 23)
        other.host.write("hello")
        guest.settle()
        #expect(other.stream.bytesRead == Array("hello".utf8))
    }

    @Test("leaves nobody waiting when the program on the host goes in a rest")
    func hostGoesUnwatched() throws {
        let (guest, stream, host) = try quiet()
        stream.send(Packet.creditUpdate)
        host.close()
        guest.settle()
        #expect(stream.state == .closed, "the guest has answered the last shutdown")
        guest.advance(by: Self.rest)
        #expect(guest.chainsUnderWay == 0)
        #expect(guest.device.connectionCount == 0)
    }

    @Test("survives queues that stop and go on in a rest, and a driver that goes")
    func stops() throws {
        let (guest, stream, host) = try quiet()
        try guest.restart()
        stream.send(Packet.creditUpdate)
        guest.settle()
        #expect(guest.chainsUnderWay == 0)
        host.write(testBytes(5000))
        guest.advance(by: Self.rest)
        #expect(stream.bytesRead.count == 8 * 4096 + 30 * 8192 + 5000)
        guest.stop()
        guest.device.reset()
        guest.advance(by: Self.rest)
        #expect(guest.device.connectionCount == 0)
        #expect(host.read() == .endOfFile)
    }
}
