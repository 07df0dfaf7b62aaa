//! From words to statements. Nesting is bounded: texts come from files of strangers.

use std::sync::Arc;

use super::lexer::{Token, words};
use super::syntax::{Class, Expr, Function, Kind, Statement};
use crate::{Error, Result};

/// How deep expressions and blocks may be nested.
const MAX_DEPTH: usize = 64;

/// The statements of a text.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let mut parser = Parser { words: words(text)?, at: 0, depth: 0 };
    let mut statements = Vec::new();
    while parser.at < parser.words.len() {
        if matches!(parser.peek(), Some(Token::End | Token::Dedent | Token::Indent)) {
            parser.at += 1;
            continue;
        }
        statements.extend(parser.statement()?);
    }
    Ok(statements)
}

struct Parser {
    words: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.words.get(self.at).map(|(_, token)| token)
    }

    fn line(&self) -> usize {
        self.words.get(self.at).or(self.words.last()).map_or(0, |(line, _)| *line)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn wrong(&self, expected: &str) -> Error {
        let found = self.peek().map_or("the end".to_string(), |token| format!("{token:?}"));
        Error::invalid(format!("line {}: expected {expected}, found {found}", self.line()))
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(Token::Sign(found)) if *found == sign)
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Token::Name(found)) if found == name)
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.at += usize::from(found);
        found
    }

    fn accept_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.accept(sign) { Ok(()) } else { Err(self.wrong(&format!("'{sign}'"))) }
    }

    fn name(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.wrong("a name")),
        }
    }

    fn end(&mut self) -> Result<()> {
        match self.peek() {
            Some(Token::End) => {
                self.at += 1;
                Ok(())
            }
            None => Ok(()),
            _ => Err(self.wrong("the end of the statement")),
        }
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(Error::invalid(format!("line {}: nested more than {MAX_DEPTH} deep", self.line())));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// A block after its colon.
    fn block(&mut self) -> Result<Vec<Statement>> {
        self.deeper(|parser| {
            parser.expect(":")?;
            if !matches!(parser.peek(), Some(Token::End)) {
                return parser.statement();
            }
            parser.at += 1;
            let mut statements = Vec::new();
            if !matches!(parser.peek(), Some(Token::Indent)) {
                // A class without a body, such as an interface.
                return Ok(statements);
            }
            parser.at += 1;
            while !matches!(parser.peek(), Some(Token::Dedent) | None) {
                statements.extend(parser.statement()?);
            }
            parser.at += 1;
            Ok(statements)
        })
    }

    /// A statement; none for those that say nothing here, such as imports.
    fn statement(&mut self) -> Result<Vec<Statement>> {
        let line = self.line();
        let one = |kind| Ok(vec![Statement { line, kind }]);
        let word = match self.peek() {
            Some(Token::Name(name)) => name.clone(),
            _ => String::new(),
        };
        match word.as_str() {
            "class" => {
                self.at += 1;
                let class = self.class()?;
                one(Kind::Class(Arc::new(class)))
            }
            "def" => {
                self.at += 1;
                let function = self.function()?;
                one(Kind::Def(Arc::new(function)))
            }
            "return" => {
                self.at += 1;
                let value =
                    if matches!(self.peek(), Some(Token::End) | None) { None } else { Some(self.expressions()?) };
                self.end()?;
                one(Kind::Return(value))
            }
            "pass" => {
                self.at += 1;
                self.end()?;
                one(Kind::Pass)
            }
            "if" => {
                self.at += 1;
                let condition = self.expression()?;
                let yes = self.block()?;
                let no = if self.accept_name("else") { self.block()? } else { Vec::new() };
                one(Kind::If(condition, yes, no))
            }
            "while" => {
                self.at += 1;
                let condition = self.expression()?;
                one(Kind::While(condition, self.block()?))
            }
            "for" => {
                self.at += 1;
                let target = self.expressions()?;
                if !self.accept_name("in") {
                    return Err(self.wrong("'in'"));
                }
                let all = self.expressions()?;
                one(Kind::For(target, all, self.block()?))
            }
            "with" => {
                self.at += 1;
                loop {
                    self.expression()?;
                    if self.accept_name("as") {
                        self.name()?;
                    }
                    if !self.accept(",") {
                        break;
                    }
                }
                one(Kind::With(self.block()?))
            }
            "import" | "from" => {
                while !matches!(self.peek(), Some(Token::End) | None) {
                    self.at += 1;
                }
                self.end()?;
                Ok(Vec::new())
            }
            _ => {
                let target = self.expressions()?;
                let kind = if self.accept(":") {
                    self.expression()?;
                    let value = if self.accept("=") { Some(self.expressions()?) } else { None };
                    Kind::Declare(target, value)
                } else if self.accept("=") {
                    Kind::Assign(target, self.expressions()?)
                } else {
                    Kind::Expr(target)
                };
                self.end()?;
                one(kind)
            }
        }
    }

    fn class(&mut self) -> Result<Class> {
        let name = self.name()?;
        let mut base = String::new();
        if self.accept("(") {
            while !self.accept(")") {
                if let Expr::Name(name) = self.expression()? {
                    base = name;
                }
                self.accept(",");
            }
        }
        let (mut fields, mut methods) = (Vec::new(), Vec::new());
        for statement in self.block()? {
            match statement.kind {
                Kind::Def(method) => methods.push(method),
                Kind::Declare(Expr::Name(name), value) => fields.push((name, value)),
                Kind::Assign(Expr::Name(name), value) => fields.push((name, Some(value))),
                // `__annotations__["0"] = …` says the type of a child.
                _ => {}
            }
        }
        Ok(Class { name, base, fields, methods })
    }

    fn function(&mut self) -> Result<Function> {
        let name = self.name()?;
        self.expect("(")?;
        let mut parameters = Vec::new();
        while !self.accept(")") {
            let name = self.name()?;
            if self.accept(":") {
                self.expression()?;
            }
            let default = if self.accept("=") { Some(self.expression()?) } else { None };
            parameters.push((name, default));
            if !self.is_sign(")") {
                self.expect(",")?;
            }
        }
        if self.accept("->") {
            self.expression()?;
        }
        let body = self.block()?;
        Ok(Function { name, parameters, body })
    }

    /// Expressions with commas between: a tuple, if there is a comma.
    fn expressions(&mut self) -> Result<Expr> {
        let first = self.expression()?;
        if !self.is_sign(",") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.accept(",") {
            if matches!(self.peek(), Some(Token::End | Token::Sign("=" | ":" | ")")) | None) || self.is_name("in") {
                break;
            }
            all.push(self.expression()?);
        }
        Ok(Expr::Tuple(all))
    }

    fn expression(&mut self) -> Result<Expr> {
        self.deeper(Self::unary)
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.accept("-") {
            let value = self.deeper(Self::unary)?;
            return Ok(match value {
                Expr::Int(int) => Expr::Int(int.wrapping_neg()),
                Expr::Float(float) => Expr::Float(-float),
                other => Expr::Minus(Box::new(other)),
            });
        }
        let mut value = self.primary()?;
        // A chain is read in a loop, but it nests on: it is bounded too.
        for _ in 0..10_000 {
            if self.accept(".") {
                value = Expr::Attribute(Box::new(value), self.name()?);
            } else if self.accept("(") {
                value = self.call(value)?;
            } else if self.accept("[") {
                value = self.subscript(value)?;
            } else {
                return Ok(value);
            }
        }
        Err(self.wrong("a shorter expression"))
    }

    fn call(&mut self, function: Expr) -> Result<Expr> {
        let (mut positional, mut named) = (Vec::new(), Vec::new());
        while !self.accept(")") {
            let keyword = match (self.peek(), self.words.get(self.at + 1)) {
                (Some(Token::Name(name)), Some((_, Token::Sign("=")))) => Some(name.clone()),
                _ => None,
            };
            if let Some(name) = keyword {
                self.at += 2;
                named.push((name, self.expression()?));
            } else {
                positional.push(self.expression()?);
            }
            if !self.is_sign(")") {
                self.expect(",")?;
            }
        }
        Ok(Expr::Call { function: Box::new(function), positional, named })
    }

    fn subscript(&mut self, value: Expr) -> Result<Expr> {
        let first = if self.is_sign(":") { None } else { Some(self.expressions()?) };
        if self.accept(":") {
            let last = if self.is_sign("]") { None } else { Some(Box::new(self.expression()?)) };
            self.expect("]")?;
            return Ok(Expr::Slice(Box::new(value), first.map(Box::new), last));
        }
        self.expect("]")?;
        let index = first.ok_or_else(|| self.wrong("an index"))?;
        Ok(Expr::Index(Box::new(value), Box::new(index)))
    }

    fn primary(&mut self) -> Result<Expr> {
        let line = self.line();
        match self.next() {
            Some(Token::Name(name)) => Ok(match name.as_str() {
                "None" => Expr::None,
                "True" => Expr::Bool(true),
                "False" => Expr::Bool(false),
                "inf" => Expr::Float(f64::INFINITY),
                "nan" => Expr::Float(f64::NAN),
                "infj" | "nanj" => return Err(Error::beyond("a complex number")),
                _ => Expr::Name(name),
            }),
            Some(Token::Int(int)) => Ok(Expr::Int(int)),
            Some(Token::Float(float)) => Ok(Expr::Float(float)),
            Some(Token::Str(text)) => Ok(Expr::Str(text)),
            Some(Token::Sign("(")) => {
                if self.accept(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let value = self.expressions()?;
                self.expect(")")?;
                Ok(value)
            }
            Some(Token::Sign("[")) => {
                let mut all = Vec::new();
                while !self.accept("]") {
                    all.push(self.expression()?);
                    if !self.is_sign("]") {
                        self.expect(",")?;
                    }
                }
                Ok(Expr::List(all))
            }
            Some(Token::Sign("{")) => {
                let mut all = Vec::new();
                while !self.accept("}") {
                    let key = self.expression()?;
                    self.expect(":")?;
                    all.push((key, self.expression()?));
                    if !self.is_sign("}") {
                        self.expect(",")?;
                    }
                }
                Ok(Expr::Dict(all))
            }
            Some(Token::Sign("^")) => Err(Error::beyond("a Python function inside the program")),
            other => Err(Error::invalid(format!("line {line}: expected an expression, found {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_as_the_printer_writes_it_is_read() -> Result<()> {
        let text = "class A(Module):\n  __parameters__ = [\"weight\", ]\n  weight : Tensor\n  n : Final[int] = 2\n  def forward(self: __torch__.A,\n    x: Tensor,\n    d: Optional[Dict[str, int]]=None) -> Tuple[Tensor, int]:\n    _0, y = (self).helper(x, 2, ), -1\n    while _0:\n      if torch.lt(y, 1.5e-3):\n        pass\n      else:\n        y = torch.div(x, CONSTANTS.c0, rounding_mode=\"trunc\")\n    return (x[0], y)\n";
        let statements = parse(text)?;
        let [Statement { kind: Kind::Class(class), .. }] = statements.as_slice() else {
            return Err(Error::invalid("no class"));
        };
        assert_eq!(class.base, "Module");
        assert_eq!(class.fields[2], ("n".to_string(), Some(Expr::Int(2))));
        let forward = &class.methods[0];
        assert_eq!(forward.parameters.len(), 3);
        assert_eq!(forward.body.len(), 3);
        assert!(matches!(forward.body[1].kind, Kind::While(_, ref body) if body.len() == 1));
        Ok(())
    }

    #[test]
    fn deep_and_broken_text_is_refused() {
        assert!(parse(&format!("x = {}1{}", "(".repeat(1000), ")".repeat(1000))).is_err());
        assert!(parse("x = \"abc").is_err());
        assert!(parse("def f(:\n  pass").is_err());
        assert!(parse("x = 99999999999999999999").is_err());
    }
}
