// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VirtioVsock

@Suite("The line of a client")
struct HandshakeParserTests {
    private func parse(_ text: String) -> HandshakeParser.Outcome {
        var parser = HandshakeParser()
        let bytes = Array(text.utf8)
        return parser.parse(bytes.span)
    }

    private func port(_ number: UInt32, after byteCount: Int) -> HandshakeParser.Outcome {
        .port(VsockPort(rawValue: number), byteCount: byteCount)
    }

    @Test("names a port, in the words of Firecracker's hybrid vsock")
    func plain() {
        #expect(parse("CONNECT 5000\n") == port(5000, after: 13))
        #expect(parse("CONNECT 0\n") == port(0, after: 10))
        #expect(parse("CONNECT 4294967294\n") == port(4_294_967_294, after: 19))
        #expect(parse("CONNECT 22\nhello") == port(22, after: 11), "what follows is payload")
    }

    @Test("may have small letters, blanks and a carriage return")
    func lenient() {
        #expect(parse("connect 22\n") == port(22, after: 11))
        #expect(parse("Connect  \t22\n") == port(22, after: 13))
        #expect(parse("CONNECT 22 \r\n") == port(22, after: 13))
        #expect(parse("CONNECT 0022\n") == port(22, after: 13))
    }

    @Test(
        "is refused when it is anything else",
        arguments: [
            "\n", "CONNECT\n", "CONNECT \n", "CONNECT22\n", "CONNECT -1\n", "CONNECT 2x\n",
            "CONNECT 2 2\n", "CONNECT 4294967295\n", "CONNECT 4294967296\n", "CONNEC 22\n",
            "CONNECT 99999999999999999999999\n", "GET / HTTP/1.1\r\n", " CONNECT 22\n",
            "CONNECT 0000000000000000000000000000022\n", "\0\0\0\0\n", "CONNECT\r22\n",
        ])
    func malformed(_ text: String) {
        #expect(parse(text) == .malformed)
    }

    @Test("is refused before its end when it has no end")
    func endless() {
        #expect(parse("CONNECT" + String(repeating: " ", count: 40)) == .malformed)
    }

    @Test("may come in any number of parts")
    func cut() {
        let line = Array("CONNECT 5000\r\npayload".utf8)
        for first in 0..<14 {
            for second in first..<14 {
                var parser = HandshakeParser()
                var outcomes: [HandshakeParser.Outcome] = []
                for part in [line[..<first], line[first..<second], line[second...]] {
                    outcomes.append(parser.parse(Array(part).span))
                }
                #expect(outcomes[0] == .incomplete)
                #expect(outcomes[1] == .incomplete)
                #expect(outcomes[2] == port(5000, after: 14 - second))
            }
        }
    }
}
