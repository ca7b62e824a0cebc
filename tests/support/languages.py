"""Two sentences in each of twenty languages, with capitals, punctuation, digits and accents, and odd texts."""

from __future__ import annotations

SENTENCES = {
    "Arabic": ("قطة سوداء تنام على الأريكة.", "كم عدد الكتب على الطاولة؟ ١٢"),
    "Chinese": ("一只黑猫睡在沙发上。", "桌子上有12本书吗?"),
    "Czech": ("Černá kočka spí na pohovce.", "Kolik knih leží na stole? Dvanáct!"),
    "Dutch": ("Een zwarte kat slaapt op de bank.", "Hoeveel boeken liggen er op tafel? 's Avonds twaalf."),
    "English": ("A Black Cat sleeps on the sofa.", "How many books (12?) are on the table: isn't it a lot?"),
    "Finnish": ("Musta kissa nukkuu sohvalla.", "Kuinka monta kirjaa pöydällä on? Yötyö!"),
    "French": ("Un chat noir dort sur le canapé.", "Combien de livres y a-t-il sur la table ? « Douze » !"),
    "German": ("Eine schwarze Katze schläft auf dem Sofa.", "Wie viele Bücher liegen in der GROẞEN Straße?"),
    "Greek": ("Μια μαύρη γάτα κοιμάται στον καναπέ.", "ΠΟΣΑ ΒΙΒΛΙΑ ΕΙΝΑΙ ΣΤΟ ΤΡΑΠΕΖΙ; Ο ΔΡΟΜΟΣ"),
    "Hebrew": ("חתול שחור ישן על הספה.", "כמה ספרים יש על השולחן?"),
    "Hindi": ("एक काली बिल्ली सोफे पर सो रही है।", "मेज पर कितनी किताबें हैं? १२"),
    "Italian": ("Un gatto nero dorme sul divano.", "Quanti libri ci sono sul tavolo? Perché no!"),
    "Japanese": ("黒い猫がソファで寝ています。", "テーブルの上に本は12冊ありますか?"),
    "Korean": ("검은 고양이가 소파에서 자고 있다.", "책상 위에 책이 몇 권 있습니까? 12"),
    "Polish": ("Czarny kot śpi na kanapie.", "Ile książek leży na stole? Żółć!"),
    "Portuguese": ("Um gato preto dorme no sofá.", "Quantos livros estão na mesa? Não são doze."),
    "Russian": ("Чёрная кошка спит на диване.", "Сколько книг лежит на столе? Двенадцать!"),
    "Spanish": ("Un gato negro duerme en el sofá.", "¿Cuántos libros hay en la mesa? ¡Doce!"),
    "Thai": ("แมวดำนอนอยู่บนโซฟา", "มีหนังสือกี่เล่มบนโต๊ะ ๑๒"),
    "Turkish": ("Siyah bir kedi kanepede uyuyor.", "Masada kaç kitap var? IŞIK İstanbul ĞÜŞ"),
}
ODD = (
    "",
    " ",
    "x",
    "...",
    "  two  spaces   before\tand between\n",
    "snake_case, e-mail@example.org #tag 50% <b>bold</b>",
    "ﬁne ligatures, ½ and full width: ＡＢＣ１２",
    "cafe\u0301 is not café but the same",
    "emoji 🐈‍⬛ and a zero\u200bwidth space",
    "a ▁ that is nobody's space",
    "long " * 100,
)
TEXTS = tuple(text for pair in SENTENCES.values() for text in pair)
