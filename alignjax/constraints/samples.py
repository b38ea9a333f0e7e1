# SPDX-License-Identifier: Apache-2.0
"""A few plain sentences in each language, which show that an answer in it is possible.

They say about the same everywhere: "This is a short answer. It is simple and easy to
understand. If you want to know more, you can ask again."
"""

from __future__ import annotations

SAMPLES: dict[str, str] = {
    "English": "This is a short answer. It is simple and easy to understand. If you "
    "want to know more, you can ask again.",
    "French": "Ceci est une réponse courte. Elle est simple et facile à comprendre. "
    "Si vous voulez en savoir plus, il suffit de poser la question avec d'autres mots.",
    "German": "Das ist eine kurze Antwort. Sie ist einfach und leicht zu verstehen. "
    "Wer mehr wissen will, kann mit anderen Worten noch einmal fragen.",
    "Spanish": "Esta es una respuesta corta. Es sencilla y fácil de entender. Si "
    "quiere saber más, puede hacer la pregunta otra vez con otras palabras.",
    "Italian": "Questa è una risposta breve. È semplice e facile da capire. Se non è "
    "chiara, si può fare la domanda un'altra volta con parole più precise.",
    "Portuguese": "Esta é uma resposta curta. É simples e fácil de entender. Se você "
    "não entendeu, pode fazer a pergunta mais uma vez com outras palavras.",
    "Dutch": "Dit is een kort antwoord. Het is eenvoudig en niet moeilijk te "
    "begrijpen. Als u meer wilt weten, kunt u de vraag ook met andere woorden stellen.",
    "Finnish": "Tämä on lyhyt vastaus. Se on yksinkertainen ja helppo ymmärtää. Jos "
    "haluat tietää lisää, voit kysyä uudelleen, kun sinulla on aikaa.",
    "Turkish": "Bu kısa bir cevap. Çok basit ve anlaması kolay. Daha fazla bilgi almak "
    "için bu soruyu başka kelimeler ile yeniden sorabilirsiniz.",
    "Vietnamese": "Đây là một câu trả lời ngắn. Nó rất đơn giản và dễ hiểu. Nếu bạn "
    "muốn biết thêm, bạn có thể hỏi lại với những từ khác.",
    "Swahili": "Hili ni jibu fupi. Ni rahisi sana na linaeleweka kwa urahisi. Kama "
    "unataka kujua zaidi, unaweza kuuliza tena kwa maneno mengine.",
    "Russian": "Это короткий ответ. Он простой и понятный. Если вы хотите узнать "
    "больше, то можно задать вопрос ещё раз, но другими словами.",
    "Bulgarian": "Това е кратък отговор. Той е прост и лесен за разбиране. Ако искате "
    "да знаете повече, можете да зададете въпроса отново с други думи.",
    "Arabic": "هذه إجابة قصيرة. إنها بسيطة وسهلة الفهم. إذا كنت تريد معرفة المزيد عن "
    "هذا الموضوع يمكنك أن تسأل مرة أخرى.",
    "Persian": "این یک پاسخ کوتاه است. این پاسخ ساده است و فهمیدن آن سخت نیست. اگر "
    "می‌خواهید بیشتر بدانید، می‌توانید دوباره از ما بپرسید.",
    "Urdu": "یہ ایک مختصر جواب ہے۔ یہ بہت آسان ہے اور سمجھنا مشکل نہیں ہے۔ اگر آپ مزید "
    "جاننا چاہتے ہیں تو آپ دوبارہ پوچھ سکتے ہیں۔",
    "Hindi": "यह एक छोटा उत्तर है। यह बहुत सरल है और इसे समझना कठिन नहीं है। यदि आप और "
    "जानना चाहते हैं तो आप फिर से पूछ सकते हैं।",
    "Marathi": "हे एक लहान उत्तर आहे. ते सोपे आहे आणि समजायला कठीण नाही. तुम्हाला अधिक "
    "माहिती हवी असेल तर तुम्ही पुन्हा विचारू शकता.",
    "Nepali": "यो एक छोटो जवाफ हो। यो धेरै सरल छ र बुझ्न गाह्रो छैन। यदि तपाईं थप जान्न "
    "चाहनुहुन्छ भने फेरि पनि सोध्न सक्नुहुन्छ।",
    "Bengali": "এটি একটি ছোট উত্তর। এটি খুব সহজ এবং বোঝা কঠিন নয়। আপনি যদি আরও জানতে "
    "চান তাহলে আবার জিজ্ঞাসা করতে পারেন।",
    "Gujarati": "આ એક ટૂંકો જવાબ છે. તે ખૂબ સરળ છે અને સમજવામાં અઘરો નથી. જો તમે વધુ "
    "જાણવા માંગતા હો તો ફરીથી પૂછી શકો છો.",
    "Punjabi": "ਇਹ ਇੱਕ ਛੋਟਾ ਜਵਾਬ ਹੈ। ਇਹ ਬਹੁਤ ਸੌਖਾ ਹੈ ਅਤੇ ਸਮਝਣਾ ਔਖਾ ਨਹੀਂ ਹੈ। ਜੇ ਤੁਸੀਂ "
    "ਹੋਰ ਜਾਣਨਾ ਚਾਹੁੰਦੇ ਹੋ ਤਾਂ ਫਿਰ ਪੁੱਛ ਸਕਦੇ ਹੋ।",
    "Tamil": "இது ஒரு சிறிய பதில். இது மிகவும் எளிமையானது. மேலும் தெரிந்து கொள்ள "
    "விரும்பினால் நீங்கள் மீண்டும் கேட்கலாம்.",
    "Telugu": "ఇది ఒక చిన్న సమాధానం. ఇది చాలా సులభం మరియు అర్థం చేసుకోవడం కష్టం కాదు. "
    "మీరు మరింత తెలుసుకోవాలనుకుంటే మళ్ళీ అడగవచ్చు.",
    "Kannada": "ಇದು ಒಂದು ಸಣ್ಣ ಉತ್ತರ. ಇದು ತುಂಬಾ ಸರಳವಾಗಿದೆ ಮತ್ತು ಅರ್ಥಮಾಡಿಕೊಳ್ಳಲು ಸುಲಭ. "
    "ನೀವು ಹೆಚ್ಚು ತಿಳಿಯಲು ಬಯಸಿದರೆ ಮತ್ತೆ ಕೇಳಬಹುದು.",
    "Thai": "นี่เป็นคำตอบสั้น ๆ มันง่ายและเข้าใจได้ไม่ยาก ถ้าคุณอยากรู้เพิ่มเติม คุณสามารถถามใหม่ได้อีกครั้ง",
    "Korean": "이것은 짧은 대답입니다. 아주 간단하고 이해하기 쉽습니다. 더 알고 싶으면 "
    "다시 물어볼 수 있습니다.",
    "Japanese": "これは短い答えです。とても簡単で、分かりやすいです。もっと知りたい"
    "場合は、もう一度聞いてください。",
    "Chinese": "这是一个简短的回答。它很简单，也很容易理解。如果您想了解更多，可以换"
    "一种说法再问一次。",
}
